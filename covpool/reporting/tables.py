"""The comparison as tables: the two of the Ascend port's README, one with every figure, and files for programs.

The port's tables have a row a model and a column a device: "Model | Epochs | NPU loss | GPU loss" and "Model |
Epochs | NPU Seconds per Step | GPU Seconds per Step". Here the published row comes first; runs that did the same work
share a row; a device that the published row does not know has a column of its own.
"""

import re
from dataclasses import dataclass

from covpool.reporting.comparison import BYTES_PER_GIB, DATA_NAMES, percent, scored_text, signed_percent

ABSENT = "\N{EN DASH}"

#: The port's two tables: figure, its name in a heading, evaluation method.
PORT_TABLES = (
    ("loss", "loss", "Evaluation method: mean of the loss over the last epoch."),
    ("seconds_per_step", "Seconds per Step", "Evaluation method: mean time of a single step over the last epoch."),
)

#: The devices that the port publishes, as its headings name them.
PUBLISHED_COLUMNS = ("NPU", "GPU")

#: Significant digits of the headline figures: more than a run repeats, few enough to be read in a diff.
HEADLINE_DIGITS = 6


@dataclass(frozen=True)
class Table:
    """A table as text: headings, rows of cells, and a note under it."""

    headings: tuple
    rows: tuple
    note: str = ""


def port_tables(comparison):
    """The two tables in the port's form, with the published row and the runs' own."""
    groups = work_groups(comparison)
    columns = _device_columns(groups)
    return [_port_table(comparison["published"], groups, columns, *description) for description in PORT_TABLES]


def work_groups(comparison):
    """The entries of runs that can be used, those that did the same work together, the reference's first."""
    groups = {}
    for entry in comparison["runs"]:
        if entry["status"] == "read":
            groups.setdefault(entry["work"], []).append(entry)
    return [groups[number] for number in sorted(groups)]


def _device_columns(groups):
    """`{title: names of the runs under it}`: NPU and GPU as published, then the others.

    Runs that did other work stand in other rows, so they share their kind's column; a second run of the same kind and
    the same work needs one of its own.
    """
    columns = {title: [] for title in PUBLISHED_COLUMNS}
    for group in groups:
        taken, kinds = set(), [entry["kind"] for entry in group]
        for entry in group:
            kind = entry["kind"].upper()
            first = entry["kind"] not in taken and kind in PUBLISHED_COLUMNS
            title = kind if first or kinds.count(entry["kind"]) == 1 else entry["title"]
            taken.add(entry["kind"])
            columns.setdefault(title, []).append(entry["name"])
    return columns


def _port_table(published, groups, columns, key, heading, note):
    text = _written(key)
    ours = {row["kind"].upper(): row for row in published}
    rows = [
        (f"{published[0]['model']} (published)", str(published[0]["epochs"]))
        + tuple(text(ours[title][key]) if title in ours else ABSENT for title in columns)
    ]
    for number, group in enumerate(groups, 1):
        figures = {entry["name"]: text(entry["figures"][key]) for entry in group}
        mark = f" ({number})" if len(groups) > 1 else ""
        rows.append(
            (f"{model_text(group[0]['settings'])}{mark}", str(group[0]["settings"]["epochs"]))
            + tuple(next((figures[name] for name in names if name in figures), ABSENT) for names in columns.values())
        )
    return Table(("Model", "Epochs", *(f"{title} {heading}" for title in columns)), tuple(rows), note)


def model_text(settings):
    """A network in words: two that pool differently are two networks."""
    return f"{settings['model']}, {settings['pooling']} pooling"


def work_text(settings):
    """What a run did, in words: network, data, length, batch and optimiser."""
    data = DATA_NAMES.get(settings["data"], settings["data"])
    images = ", ".join(f"{number} {split}" for split, number in (settings["images"] or {}).items() if number)
    return (
        f"{model_text(settings)}, on {data}{f' ({images})' if images else ''}, {count(settings['epochs'], 'epoch')} of "
        f"{count(settings['epoch_size'], 'step')}, batch {settings['batch_size']}, {settings['optimizer']}"
    )


def count(number, noun):
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def fixed(value, decimals):
    return ABSENT if value is None else f"{value:.{decimals}f}"


def seconds(value):
    """Seconds with three decimals, as published, or with three digits where that is more."""
    return ABSENT if value is None else f"{value:.3f}" if value >= 0.1 else f"{value:#.3g}"


def share(value):
    return ABSENT if value is None else f"{100 * value:.1f} %"


def times_reference(value):
    return ABSENT if value is None else f"{value:#.3g}".rstrip(".") + " \N{MULTIPLICATION SIGN}"


def gibibytes(value):
    return ABSENT if value is None else f"{value / BYTES_PER_GIB:.2f} GiB"


def difference(value):
    return ABSENT if value is None else signed_percent(value)


def energy(value):
    return ABSENT if value is None else f"{value / 1000:.1f} kJ"


#: Settings of a run in the table with every figure.
SETTING_ROWS = (
    ("Matrix logarithm", "logarithm"),
    ("Embedding size", "embedding_size"),
    ("Image size", "image_size"),
    ("Input normalisation", "normalisation"),
    ("Optimizer", "optimizer"),
    ("Learning rate", "learning_rate"),
)

#: Rows of the table with every figure: name, key, how it is written, and whether the published runs have it.
FIGURE_ROWS = (
    ("Loss (total), mean of the last epoch", "loss", lambda value: fixed(value, 4), True),
    ("\N{EN DASH} its cross entropy", "cross_entropy", lambda value: fixed(value, 4), False),
    ("\N{EN DASH} its L2 term", "l2_loss", lambda value: fixed(value, 4), False),
    ("\N{EN DASH} its center loss", "center_loss", lambda value: fixed(value, 4), False),
    ("Seconds per step, mean of the last epoch", "seconds_per_step", seconds, True),
    ("\N{EN DASH} median", "median_seconds", seconds, False),
    ("\N{EN DASH} 90th percentile", "p90_seconds", seconds, False),
    ("\N{EN DASH} share spent waiting for data", "waiting_share", share, False),
    ("Images per second", "images_per_second", lambda value: fixed(value, 1), True),
    ("Accuracy, as scored", "accuracy", share, False),
    ("Mean class accuracy", "mean_class_accuracy", share, False),
    ("Macro F1", "macro_f1", share, False),
    ("Best accuracy on val while training", "best_val_accuracy", share, False),
    ("Peak memory", "peak_bytes", gibibytes, False),
    ("Energy", "joules", energy, False),
)


def _written(key):
    return next(text for _, name, text, _ in FIGURE_ROWS if name == key)


REFERENCE_ROWS = (
    ("Loss difference", "loss_difference", difference),
    ("Cross entropy difference", "cross_entropy_difference", difference),
    ("Seconds per step, ratio", "step_ratio", times_reference),
    ("Images per second, ratio", "images_per_second_ratio", times_reference),
    ("Peak memory, ratio", "peak_memory_ratio", times_reference),
    ("Energy, ratio", "energy_ratio", times_reference),
)


def figures_table(comparison):
    """Every figure: a row a quantity, a column a published device and a run. Rows that nobody has are left out."""
    published, runs = comparison["published"], [entry for entry in comparison["runs"] if entry["status"] == "read"]
    rows = [
        ("Device", *(row["device"] for row in published), *(entry["device"] for entry in runs)),
        ("TensorFlow", *("1.15" for _ in published), *(entry["tensorflow"] for entry in runs)),
        ("Network", *(row["model"] for row in published), *(model_text(entry["settings"]) for entry in runs)),
        ("Data", *(row["data"] for row in published), *(_data_name(entry) for entry in runs)),
        (
            "Batch size",
            *(str(row["batch_size"]) for row in published),
            *(_setting(entry, "batch_size") for entry in runs),
        ),
        (
            "Epochs \N{MULTIPLICATION SIGN} steps",
            *(f"{row['epochs']} \N{MULTIPLICATION SIGN} {row['epoch_size']}" for row in published),
            *(f"{_setting(entry, 'epochs')} \N{MULTIPLICATION SIGN} {_setting(entry, 'epoch_size')}" for entry in runs),
        ),
    ]
    for name, key in SETTING_ROWS:
        rows.append((name, *(ABSENT for _ in published), *(_setting(entry, key) for entry in runs)))
    for name, key, text, known in FIGURE_ROWS:
        if key == "accuracy":
            rows.append(("Scored", *(ABSENT for _ in published), *(_scored(entry) for entry in runs)))
        theirs = (text(row[key]) if known else ABSENT for row in published)
        rows.append((name, *theirs, *(text(entry["figures"][key]) for entry in runs)))
    headings = ("", *(f"{row['kind'].upper()}, published" for row in published), *(entry["title"] for entry in runs))
    return Table(headings, _kept(rows))


def reference_table(comparison):
    """Runs against the reference: a row a quantity, a column a run that is compared; None where there is none."""
    runs = [entry for entry in comparison["runs"] if entry.get("comparable")]
    if not runs:
        return None
    rows = [(name, *(text(entry["against_reference"][key]) for entry in runs)) for name, key, text in REFERENCE_ROWS]
    return Table(("", *(f"{entry['title']} against {reference_title(comparison)}" for entry in runs)), _kept(rows))


def reference_title(comparison):
    return next((entry["title"] for entry in comparison["runs"] if entry["name"] == comparison["reference"]), None)


def _kept(rows):
    return tuple(row for row in rows if any(cell != ABSENT for cell in row[1:]))


def _data_name(entry):
    return DATA_NAMES.get(entry["settings"]["data"], str(entry["settings"]["data"]))


def _scored(entry):
    scored = entry["evaluation"]
    text = scored_text(scored["split"], scored["checkpoint"])
    if text is None:
        return ABSENT
    epoch = "" if scored["epoch"] is None else f" (epoch {scored['epoch']})"
    return f"{text}{epoch}, {count(scored['images'], 'picture')}"


def _setting(entry, key):
    return str(entry["settings"][key])


def remarks_on_runs(comparison):
    """Sentences that a reader of the tables needs: who did what, what is missing, refused or not comparable."""
    lines = []
    groups = work_groups(comparison)
    for number, group in enumerate(groups, 1):
        mark = f"Row {number}: " if len(groups) > 1 else ""
        runs = ", ".join(f"{entry['title']} on {entry['device']}" for entry in group)
        lines.append(f"{mark}{work_text(group[0]['settings'])}: {runs}.")
    for entry in comparison["runs"]:
        if entry["status"] != "read":
            lines.append(f"Run {entry['name']} is {entry['status']}, its figures are left out: {entry['reason']}.")
            continue
        if entry["differences"]:
            lines.append(
                f"{entry['title']} is not compared with {reference_title(comparison)}: {listing(entry['differences'])}."
            )
        lines += [f"{entry['title']}: {text}." for text in entry["remarks"] + entry["notes"]]
    return lines


#: As many reasons are spelled out; comparison.json has them all.
SHOWN_REASONS = 6


def listing(reasons):
    shown = "; ".join(reasons[:SHOWN_REASONS])
    return f"{shown}; and {len(reasons) - SHOWN_REASONS} more" if len(reasons) > SHOWN_REASONS else shown


def published_statement(comparison):
    """Where the published row comes from and how the runs' rows stand to it: a sentence each."""
    npu, gpu = comparison["published"]
    gpu_name = gpu["device"].replace("(not named)", "that is not named")
    lines = [
        f"The published row was measured on {npu['data']}, {npu['epochs']} epochs of {npu['epoch_size']} steps, batch "
        f"{npu['batch_size']}, on {npu['device']} and on a {gpu_name}. Source: {npu['source']}."
    ]
    runs = [entry for entry in comparison["runs"] if entry["status"] == "read"]
    if any(entry["differs_from_published"] for entry in runs):
        what = dict.fromkeys(item["what"] for entry in runs for item in entry["differs_from_published"])
        lines.append(
            f"The runs here differ from it in {_enumeration(list(what))}: they are shown beside it for orientation, "
            "not as a comparison."
        )
    return lines


def published_conditions(comparison):
    """What differs between the published measurement and the runs: a row a condition; None where nothing does."""
    runs = [entry for entry in comparison["runs"] if entry["status"] == "read"]
    differing = [{item["what"]: item for item in entry["differs_from_published"]} for entry in runs]
    rows = []
    for what in dict.fromkeys(what for items in differing for what in items):
        published = next(items[what]["published"] for items in differing if what in items)
        rows.append((what, published, *(items[what]["here"] if what in items else "the same" for items in differing)))
    return Table(("Condition", "published", *(entry["title"] for entry in runs)), tuple(rows)) if rows else None


def _enumeration(items):
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def verdict_lines(comparison):
    """The verdicts, a sentence each; one that says why there is none otherwise."""
    verdicts = [entry["verdict"]["text"] for entry in comparison["runs"] if entry.get("verdict")]
    if verdicts:
        return verdicts
    usable = [entry for entry in comparison["runs"] if entry["status"] == "read"]
    if len(usable) > 1:
        return ["No verdict on the loss: no two runs did the same work."]
    tolerance = percent(comparison["loss_tolerance"])
    return [f"No verdict on the loss: it takes two runs whose losses can be compared (tolerance {tolerance})."]


def markdown(comparison):
    """`comparison.md`: the port's two tables, the figures, and what a reader of them must know."""
    first, second = port_tables(comparison)
    parts = ["# Comparison", _markdown_table(first), first.note, _markdown_table(second), second.note]
    parts += ["## Runs", _bullets(remarks_on_runs(comparison))]
    parts += ["## Verdict", _bullets(verdict_lines(comparison))]
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
    "origin", "name", "kind", "device", "tensorflow", "status", "model", "pooling", "optimizer", "data", "data_hash",
    "epochs", "epoch_size", "steps", "batch_size", "loss", "cross_entropy", "l2_loss", "center_loss",
    "seconds_per_step", "median_seconds", "p90_seconds", "waiting_share", "images_per_second", "split", "checkpoint",
    "accuracy", "mean_class_accuracy", "macro_f1", "peak_bytes", "joules", "comparable", "loss_difference",
    "step_ratio", "images_per_second_ratio", "peak_memory_ratio", "energy_ratio", "verdict", "reason", "source",
)  # fmt: skip


def csv_rows(comparison):
    """`comparison.csv`: a row a published device and a run."""
    for row in comparison["published"]:
        yield {"origin": "published", **{key: row[key] for key in row if key in CSV_COLUMNS}}
    for entry in comparison["runs"]:
        known = {"origin": "run", **{key: entry[key] for key in ("name", "status", "reason")}}
        if entry["status"] == "read":
            found = {**entry["settings"], **entry["figures"], **(entry["against_reference"] or {})}
            known |= {key: found[key] for key in found if key in CSV_COLUMNS}
            known |= {key: entry[key] for key in ("kind", "device", "tensorflow", "comparable")}
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
    "energy_kj": ("joules", 1e-3),
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
    as recorded, `npu_gpu_loss_diff_pct`, `npu_gpu_step_ratio`; of two runs of one kind with their names.
    """
    metrics = {}
    for entry in comparison["runs"]:
        if entry["status"] == "read":
            metrics[entry["label"]] = _headlines(entry, HEADLINES)
            if entry["evaluation"]["split"]:
                scored = "{split}_{checkpoint}".format(**entry["evaluation"])
                metrics[entry["label"]][scored] = _headlines(entry, SCORES)
    reference = next((entry for entry in comparison["runs"] if entry["name"] == comparison["reference"]), None)
    for entry in comparison["runs"]:
        if entry.get("comparable"):
            key = "label" if entry["kind"] == reference["kind"] else "kind"
            pair = f"{entry[key]}_{reference[key]}"
            against = entry["against_reference"]
            for name, value in (
                (f"{pair}_loss_diff_pct", against["loss_difference"] and 100 * against["loss_difference"]),
                (f"{pair}_step_ratio", against["step_ratio"]),
            ):
                if value is not None:
                    metrics.setdefault(name, _headline(value))
    return metrics


def _headlines(entry, wanted):
    found = {name: (entry["figures"][key], factor) for name, (key, factor) in wanted.items()}
    return {name: _headline(value * factor) for name, (value, factor) in found.items() if value is not None}


def _headline(value):
    return float(f"{value:.{HEADLINE_DIGITS}g}")
