"""The comparison as tables: figures beside the published ones, accuracies, ratios, every figure, conditions.

The Ascend port's README has two tables with one row per model and one column per device: "Model | Epochs | NPU loss |
GPU loss" and "Model | Epochs | NPU Seconds per Step | GPU Seconds per Step". `port_tables` repeats them with the
published row first. Runs that did the same work share a row; a device that was not published has a column of its own.
"""

from dataclasses import dataclass

from covpool.reporting.published import published_figures
from covpool.reporting.published_conditions import PUBLISHED_CONDITIONS
from covpool.reporting.wording import (
    ABSENT,
    DATA_NAMES,
    count,
    difference,
    duration,
    energy,
    fixed,
    gibibytes,
    interval,
    joules,
    seconds,
    share,
    times_reference,
)

#: The port's two tables: figure, its name in a heading, evaluation method.
PORT_TABLES = (
    ("loss", "loss", "Evaluation method: mean of the loss over the last epoch."),
    ("seconds_per_step", "Seconds per Step", "Evaluation method: mean time of a single step over the last epoch."),
)

#: The devices that the port publishes, as its headings name them.
PUBLISHED_COLUMNS = ("NPU", "GPU")


@dataclass(frozen=True)
class Table:
    """A table as text: headings, rows of cells, and a note under it."""

    headings: tuple
    rows: tuple
    note: str = ""


def port_tables(comparison: dict) -> list[Table]:
    """Return the two tables in the port's form, with the published row and the runs' rows."""
    groups = work_groups(comparison)
    columns = _device_columns(groups)
    return [_port_table(comparison["published"], groups, columns, *description) for description in PORT_TABLES]


def work_groups(comparison: dict) -> list[list[dict]]:
    """Return the entries of the runs that were read, grouped by their work, the reference's group first."""
    groups = {}
    for entry in read_runs(comparison):
        groups.setdefault(entry["work"], []).append(entry)
    return [groups[number] for number in sorted(groups)]


def _device_columns(groups):
    """`{title: names of the runs under it}`: NPU and GPU as published, then the others.

    Runs that did other work have other rows, so they share their kind's column. A second run of the same kind and the
    same work needs a column of its own.
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
    text = next(write for _, name, write in PUBLISHED_ROWS if name == key)
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


def model_text(settings: dict) -> str:
    """Return a network in words. Two that pool differently are two networks."""
    return f"{settings['model']}, {settings['pooling']} pooling"


def work_text(settings: dict) -> str:
    """Return what a run did, in words: network, data, length, batch and optimiser."""
    data = DATA_NAMES.get(settings["data"], settings["data"])
    images = ", ".join(f"{number} {split}" for split, number in (settings["images"] or {}).items() if number)
    return (
        f"{model_text(settings)}, on {data}{f' ({images})' if images else ''}, {count(settings['epochs'], 'epoch')} of "
        f"{count(settings['epoch_size'], 'step')}, batch {settings['batch_size']}, {settings['optimizer']}"
    )


def _loss(value):
    return fixed(value, 4)


def _rate(value):
    return fixed(value, 1)


#: Figures that are published, too: name, key, how it is written.
PUBLISHED_ROWS = (
    ("Loss (total), mean of the last epoch", "loss", _loss),
    ("Seconds per step, mean of the last epoch", "seconds_per_step", seconds),
    ("Images per second", "images_per_second", _rate),
)
_LOSS, _STEP, _IMAGES = PUBLISHED_ROWS

#: Figures before and after the scores in the table of every figure: name, key, how it is written.
FIGURE_ROWS = (
    _LOSS,
    ("\N{EN DASH} its cross entropy", "cross_entropy", _loss),
    ("\N{EN DASH} its L2 term", "l2_loss", _loss),
    ("\N{EN DASH} its center loss", "center_loss", _loss),
    _STEP,
    ("\N{EN DASH} median", "median_seconds", seconds),
    ("\N{EN DASH} 90th percentile", "p90_seconds", seconds),
    ("\N{EN DASH} share spent waiting for data", "waiting_share", share),
    _IMAGES,
    ("Duration of the training", "training_seconds", duration),
    ("Best accuracy on val while training", "best_val_accuracy", share),
    ("Peak memory of the training process", "peak_bytes", gibibytes),
    ("Peak memory in use on the device", "device_peak_bytes", gibibytes),
    ("Energy of the training", "joules", energy),
    ("\N{EN DASH} per picture", "joules_per_image", joules),
)
#: Scores of a split: name, key, how it is written.
SCORE_ROWS = (
    ("Accuracy", "accuracy", share),
    ("\N{EN DASH} 95 % interval", "interval", interval),
    ("\N{EN DASH} chance level", "chance", share),
    ("Mean class accuracy", "mean_class_accuracy", share),
    ("Macro F1", "macro_f1", share),
)

REFERENCE_ROWS = (
    ("Loss difference", "loss_difference", difference),
    ("Cross entropy difference", "cross_entropy_difference", difference),
    ("Seconds per step, ratio", "step_ratio", times_reference),
    ("Images per second, ratio", "images_per_second_ratio", times_reference),
    ("Peak memory of the process, ratio", "peak_memory_ratio", times_reference),
    ("Peak memory of the device, ratio", "device_memory_ratio", times_reference),
    ("Energy, ratio", "energy_ratio", times_reference),
)


def read_runs(comparison: dict) -> list[dict]:
    """Return the entries of the runs that were read."""
    return [entry for entry in comparison["runs"] if entry["status"] == "read"]


def published_table(comparison: dict) -> Table:
    """Return the figures that were published, beside those of the runs: one column per device and run."""
    published, runs = comparison["published"], read_runs(comparison)
    headings = ("", *(f"{row['kind'].upper()}, published" for row in published), *(entry["title"] for entry in runs))
    rows = [("Device", *(entry["device"] for entry in [*published, *runs]))]
    for name, key, text in PUBLISHED_ROWS:
        rows.append((name, *(text(row[key]) for row in published), *(text(entry["figures"][key]) for entry in runs)))
    return Table(headings, tuple(rows))


def accuracy_table(comparison: dict) -> Table:
    """Return the accuracies of the runs, one row per run and split, and the published ones below."""
    rows = []
    for entry in read_runs(comparison):
        for split, scores in entry["evaluations"].items():
            rows.append(
                (
                    f"{entry['title']}: {model_text(entry['settings'])}",
                    f"{_data_name(entry)}, {split} ({count(scores['images'], 'picture')})",
                    share(scores["accuracy"]),
                    interval(scores["interval"]),
                    share(scores["chance"]),
                    f"{scores['checkpoint']} checkpoint; {scores['role']}",
                )
            )
    for figure in published_figures():
        if figure.quantity == "accuracy":
            least = "at least " if figure.bound == "at least" else ""
            cells = (f"{least}{figure.text} %", ABSENT, ABSENT, figure.meaning or ABSENT)
            rows.append((f"{figure.model} (published)", figure.data, *cells))
    headings = ("Model", "Pictures", "Accuracy", "95 % interval", "Chance level", "Remarks")
    return Table(headings, tuple(rows))


def figures_table(comparison: dict) -> Table | None:
    """Return every figure of the runs: one row per quantity, one column per run; None without runs.

    Rows that no run has are left out.
    """
    runs = read_runs(comparison)
    if not runs:
        return None
    rows = [
        ("Device", *(entry["device"] for entry in runs)),
        ("TensorFlow", *(entry["tensorflow"] for entry in runs)),
        ("Arithmetic", *(entry["arithmetic"] or ABSENT for entry in runs)),
        ("Network", *(model_text(entry["settings"]) for entry in runs)),
        ("Data", *(_data_name(entry) for entry in runs)),
        ("Batch size", *(str(entry["settings"]["batch_size"]) for entry in runs)),
        ("Epochs \N{MULTIPLICATION SIGN} steps", *(_length(entry["settings"]) for entry in runs)),
        ("Finished", *(entry["finished"] or ABSENT for entry in runs)),
        *((name, *(text(entry["figures"][key]) for entry in runs)) for name, key, text in FIGURE_ROWS),
    ]
    for split in dict.fromkeys(split for entry in runs for split in entry["evaluations"]):
        scores = [entry["evaluations"].get(split) for entry in runs]
        rows.append((f"Scored on {split}", *map(_scored, scores)))
        for name, key, text in SCORE_ROWS:
            rows.append((f"{name} on {split}", *(text(item and item[key]) for item in scores)))
    return Table(("", *(entry["title"] for entry in runs)), _kept(rows))


def reference_table(comparison: dict) -> Table | None:
    """Return the runs against the reference: one row per quantity, one column per compared run; None without any."""
    runs = [entry for entry in comparison["runs"] if entry.get("comparable")]
    if not runs:
        return None
    rows = [(name, *(text(entry["against_reference"][key]) for entry in runs)) for name, key, text in REFERENCE_ROWS]
    return Table(("", *(f"{entry['title']} against {reference_title(comparison)}" for entry in runs)), _kept(rows))


def reference_title(comparison: dict) -> str | None:
    """Return the title of the run that the others are measured against."""
    return next((entry["title"] for entry in comparison["runs"] if entry["name"] == comparison["reference"]), None)


def _kept(rows):
    return tuple(row for row in rows if any(cell != ABSENT for cell in row[1:]))


def _data_name(entry):
    return DATA_NAMES.get(entry["settings"]["data"], str(entry["settings"]["data"]))


def _length(settings):
    return f"{settings['epochs']} \N{MULTIPLICATION SIGN} {settings['epoch_size']}"


def _scored(scores):
    if scores is None:
        return ABSENT
    epoch = "" if scores["epoch"] is None else f" (epoch {scores['epoch']})"
    return f"{count(scores['images'], 'picture')}, {scores['checkpoint']} checkpoint{epoch}"


def conditions_table(comparison: dict) -> Table | None:
    """Return what differs between the published measurement and the runs, one row per condition; None if none does."""
    runs = read_runs(comparison)
    differing = [{item["what"]: item for item in entry["differs_from_published"]} for entry in runs]
    rows = []
    for what in sorted({what for items in differing for what in items}, key=PUBLISHED_CONDITIONS.index):
        published = next(items[what]["published"] for items in differing if what in items)
        rows.append((what, published, *(items[what]["here"] if what in items else "the same" for items in differing)))
    return Table(("Condition", "published", *(entry["title"] for entry in runs)), tuple(rows)) if rows else None
