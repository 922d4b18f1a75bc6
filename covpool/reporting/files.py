"""The comparison as files beside the page: Markdown for people, CSV for programs, the headline metrics for DVC."""

import math
import re
from collections import Counter

from covpool.reporting.comparison import BYTES_PER_GIB
from covpool.reporting.sentences import published_statement, remarks_on_runs, verdicts
from covpool.reporting.tables import figures_table, port_tables, published_conditions, reference_table

#: Significant digits of the headline figures: more than a run repeats, few enough to be read in a diff.
HEADLINE_DIGITS = 6


def markdown(comparison):
    """`comparison.md`: the port's two tables, the figures, and what a reader of them must know."""
    first, second = port_tables(comparison)
    parts = ["# Comparison", _markdown_table(first), first.note, _markdown_table(second), second.note]
    parts += ["## Runs", _bullets(remarks_on_runs(comparison))]
    parts += ["## Verdict", _bullets(text for _, text in verdicts(comparison))]
    against = reference_table(comparison)
    if against:
        parts += [_markdown_table(against)]
    parts += ["## Every figure", _markdown_table(figures_table(comparison))]
    parts += ["## The published row", *map(_escape, published_statement(comparison))]
    conditions = published_conditions(comparison)
    if conditions:
        parts += [_markdown_table(conditions)]
    return "\n\n".join(parts) + "\n"


def _bullets(lines):
    return "\n".join(f"- {_escape(line)}" for line in lines)


def _markdown_table(table):
    rule = " | ".join(["---"] + ["---:"] * (len(table.headings) - 1))
    rows = [" | ".join(map(_escape, row)) for row in (table.headings, *table.rows)]
    return "\n".join(f"| {row} |" for row in (rows[0], rule, *rows[1:]))


#: What Markdown may take for its own; an underscore inside a word is none of it.
_MARKDOWN = re.compile(r"[\\`*\[\]<|&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def _escape(text):
    """Text that Markdown shows as it is: one line, no cell borders, tags or emphasis of its own."""
    return _MARKDOWN.sub(lambda found: "\\" + found.group(), " ".join(str(text).split()))


CSV_COLUMNS = (
    "origin",
    "name",
    "kind",
    "device",
    "tensorflow",
    "arithmetic",
    "status",
    "model",
    "pooling",
    "optimizer",
    "data",
    "data_hash",
    "epochs",
    "epoch_size",
    "steps",
    "batch_size",
    "loss",
    "cross_entropy",
    "l2_loss",
    "center_loss",
    "seconds_per_step",
    "median_seconds",
    "p90_seconds",
    "waiting_share",
    "images_per_second",
    "split",
    "checkpoint",
    "accuracy",
    "mean_class_accuracy",
    "macro_f1",
    "peak_bytes",
    "device_peak_bytes",
    "joules",
    "joules_per_image",
    "comparable",
    "loss_difference",
    "step_ratio",
    "images_per_second_ratio",
    "peak_memory_ratio",
    "device_memory_ratio",
    "energy_ratio",
    "verdict",
    "reason",
    "source",
)


def csv_rows(comparison):
    """`comparison.csv`: a row a published device and a run."""
    for row in comparison["published"]:
        yield {"origin": "published", **{key: row[key] for key in row if key in CSV_COLUMNS}}
    for entry in comparison["runs"]:
        known = {"origin": "run", **{key: entry[key] for key in ("name", "status", "reason")}}
        if entry["status"] == "read":
            found = {**entry["settings"], **entry["figures"], **(entry["against_reference"] or {})}
            known |= {key: found[key] for key in found if key in CSV_COLUMNS}
            known |= {key: entry[key] for key in ("kind", "device", "tensorflow", "arithmetic", "comparable")}
            known |= {key: entry["evaluation"][key] for key in ("split", "checkpoint")}
            known["verdict"] = entry["verdict"]["result"] if entry["verdict"] else None
            known["reason"] = "; ".join(entry["differences"]) or None
        yield known


#: Headline figures of a run: name with its unit -> figure and factor to that unit.
HEADLINES = {
    "loss": ("loss", 1),
    "cross_entropy": ("cross_entropy", 1),
    "step_s": ("seconds_per_step", 1),
    "images_per_s": ("images_per_second", 1),
    "peak_gib": ("peak_bytes", 1 / BYTES_PER_GIB),
    "device_peak_gib": ("device_peak_bytes", 1 / BYTES_PER_GIB),
    "energy_kj": ("joules", 1e-3),
    "image_j": ("joules_per_image", 1),
}
#: The same of its scores, under a name that says of which split and checkpoint they are.
SCORES = {
    "acc_pct": ("accuracy", 100),
    "mean_class_acc_pct": ("mean_class_accuracy", 100),
    "macro_f1_pct": ("macro_f1", 100),
}


def headline_metrics(comparison):
    """`metrics.json`: the headline figures of each run, and of each that is compared with the reference.

    Scores stand under split and checkpoint: `cpu.val_best.acc_pct`. A name of a comparison starts with the two kinds,
    as recorded, `npu_gpu_loss_diff_pct`, `npu_gpu_step_ratio`. A run has its name there instead where its kind is also
    that of the reference, as does the reference then, or that of another run that is compared.
    """
    metrics = {}
    for entry in comparison["runs"]:
        if entry["status"] == "read":
            metrics[entry["label"]] = _headlines(entry, HEADLINES)
            if entry["evaluation"]["split"]:
                scored = "{split}_{checkpoint}".format(**entry["evaluation"])
                metrics[entry["label"]][scored] = _headlines(entry, SCORES)
    reference = next((entry for entry in comparison["runs"] if entry["name"] == comparison["reference"]), None)
    compared = [entry for entry in comparison["runs"] if entry.get("comparable")]
    kinds = Counter(entry["kind"] for entry in compared)
    for entry in compared:
        same_kind = entry["kind"] == reference["kind"]
        run = entry["label" if same_kind or kinds[entry["kind"]] > 1 else "kind"]
        pair = f"{run}_{reference['label' if same_kind else 'kind']}"
        against = entry["against_reference"]
        for name, value in (
            (f"{pair}_loss_diff_pct", against["loss_difference"] and 100 * against["loss_difference"]),
            (f"{pair}_step_ratio", against["step_ratio"]),
        ):
            if value is not None and math.isfinite(value):
                metrics[name] = _headline(value)
    return metrics


def _headlines(entry, wanted):
    found = {name: (entry["figures"][key], factor) for name, (key, factor) in wanted.items()}
    return {name: _headline(value * factor) for name, (value, factor) in found.items() if value is not None}


def _headline(value):
    return float(f"{value:.{HEADLINE_DIGITS}g}")
