"""The comparison as files beside the page: Markdown for people, CSV for programs, the headline metrics for DVC."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator

from covpool.pipeline import markdown
from covpool.pipeline.artifacts import SPLITS
from covpool.reporting import tables
from covpool.reporting.sentences import caveats, published_statement, remarks_on_runs, verdicts
from covpool.reporting.wording import BYTES_PER_GIB

#: Significant digits of the headline figures: more than a run repeats, few enough to be read in a diff.
HEADLINE_DIGITS = 6


def markdown_text(comparison: dict) -> str:
    """Return `comparison.md`: the port's two tables, the figures, and what a reader of them must know."""
    parts = ["# Comparison"]
    for table in tables.port_tables(comparison):
        parts += [_table(table), table.note]
    parts += ["## Runs", _bullets(remarks_on_runs(comparison))]
    parts += ["## Verdict", _bullets(text for _, text in verdicts(comparison))]
    against = tables.reference_table(comparison)
    parts += [_table(against)] if against else []
    parts += ["## Accuracy", *map(markdown.escape, caveats(comparison)), _table(tables.accuracy_table(comparison))]
    figures = tables.figures_table(comparison)
    parts += ["## Every figure", _table(figures)] if figures else []
    parts += ["## The published figures", *map(markdown.escape, published_statement(comparison))]
    parts += [_table(tables.published_table(comparison))]
    conditions = tables.conditions_table(comparison)
    parts += [_table(conditions)] if conditions else []
    return "\n\n".join(parts) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {markdown.escape(line)}" for line in lines)


def _table(table: tables.Table) -> str:
    return markdown.table(table.headings, table.rows)


#: Scores of a split in `comparison.csv`, under `<score>_<split>`.
_CSV_SCORES = ("accuracy", "mean_class_accuracy", "macro_f1")
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
    "training_seconds",
    "checkpoint",
    *(f"{score}_{split}" for split in SPLITS for score in _CSV_SCORES),
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


def csv_rows(comparison: dict) -> Iterator[dict]:
    """Yield the rows of `comparison.csv`: one per published device and one per run."""
    for row in comparison["published"]:
        yield {"origin": "published", **{key: row[key] for key in row if key in CSV_COLUMNS}}
    for entry in comparison["runs"]:
        known = {"origin": "run", **{key: entry[key] for key in ("name", "status", "reason")}}
        if entry["status"] == "read":
            found = {**entry["settings"], **entry["figures"], **(entry["against_reference"] or {})}
            known |= {key: found[key] for key in found if key in CSV_COLUMNS}
            known |= {key: entry[key] for key in ("kind", "device", "tensorflow", "arithmetic", "comparable")}
            for split, scores in entry["evaluations"].items():
                known |= {"checkpoint": scores["checkpoint"]} | {f"{key}_{split}": scores[key] for key in _CSV_SCORES}
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
#: Headline scores of a split: name with its unit -> score and factor to that unit.
SCORES = {
    "acc_pct": ("accuracy", 100),
    "mean_class_acc_pct": ("mean_class_accuracy", 100),
    "macro_f1_pct": ("macro_f1", 100),
}


def headline_metrics(comparison: dict) -> dict:
    """Return `metrics.json`: the headline figures of each run, and of each that is compared with the reference.

    Scores are named by split and checkpoint: `cpu.test_best.acc_pct`. The name of a comparison starts with the two
    recorded kinds: `npu_gpu_loss_diff_pct`, `npu_gpu_step_ratio`. A run's label replaces its kind if the reference, or
    another compared run, is of the same kind.
    """
    metrics = {}
    for entry in tables.read_runs(comparison):
        metrics[entry["label"]] = _headlines(entry["figures"], HEADLINES)
        for split, scores in entry["evaluations"].items():
            metrics[entry["label"]][f"{split}_{scores['checkpoint']}"] = _headlines(scores, SCORES)
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


def _headlines(figures, names):
    found = {name: (figures[key], factor) for name, (key, factor) in names.items()}
    return {name: _headline(value * factor) for name, (value, factor) in found.items() if value is not None}


def _headline(value):
    return float(f"{value:.{HEADLINE_DIGITS}g}")
