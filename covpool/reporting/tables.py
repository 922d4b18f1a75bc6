"""The comparison as tables: the two of the Ascend port's README, the ratios, every figure, the conditions.

The port's tables have a row a model and a column a device: "Model | Epochs | NPU loss | GPU loss" and "Model |
Epochs | NPU Seconds per Step | GPU Seconds per Step". Here the published row comes first; runs that did the same work
share a row; a device that the published row does not know has a column of its own.
"""

from dataclasses import dataclass

from covpool.reporting.comparison import (
    BYTES_PER_GIB,
    DATA_NAMES,
    PUBLISHED_CONDITIONS,
    scored_text,
    signed_percent,
)

ABSENT = "\N{EN DASH}"

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


def joules(value):
    return ABSENT if value is None else f"{value:.0f} J" if value >= 100 else f"{value:#.3g} J"


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
    ("Peak memory of the training process", "peak_bytes", gibibytes, False),
    ("Peak memory in use on the device", "device_peak_bytes", gibibytes, False),
    ("Energy of the training", "joules", energy, False),
    ("\N{EN DASH} per picture", "joules_per_image", joules, False),
)


def _written(key):
    return next(text for _, name, text, _ in FIGURE_ROWS if name == key)


REFERENCE_ROWS = (
    ("Loss difference", "loss_difference", difference),
    ("Cross entropy difference", "cross_entropy_difference", difference),
    ("Seconds per step, ratio", "step_ratio", times_reference),
    ("Images per second, ratio", "images_per_second_ratio", times_reference),
    ("Peak memory of the process, ratio", "peak_memory_ratio", times_reference),
    ("Peak memory of the device, ratio", "device_memory_ratio", times_reference),
    ("Energy, ratio", "energy_ratio", times_reference),
)


def figures_table(comparison):
    """Every figure: a row a quantity, a column a published device and a run. Rows that nobody has are left out."""
    published, runs = comparison["published"], [entry for entry in comparison["runs"] if entry["status"] == "read"]
    rows = [
        ("Device", *(row["device"] for row in published), *(entry["device"] for entry in runs)),
        ("TensorFlow", *("1.15" for _ in published), *(entry["tensorflow"] for entry in runs)),
        ("Arithmetic", *(ABSENT for _ in published), *(entry["arithmetic"] or ABSENT for entry in runs)),
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


def published_conditions(comparison):
    """What differs between the published measurement and the runs: a row a condition; None where nothing does."""
    runs = [entry for entry in comparison["runs"] if entry["status"] == "read"]
    differing = [{item["what"]: item for item in entry["differs_from_published"]} for entry in runs]
    rows = []
    for what in sorted({what for items in differing for what in items}, key=PUBLISHED_CONDITIONS.index):
        published = next(items[what]["published"] for items in differing if what in items)
        rows.append((what, published, *(items[what]["here"] if what in items else "the same" for items in differing)))
    return Table(("Condition", "published", *(entry["title"] for entry in runs)), tuple(rows)) if rows else None
