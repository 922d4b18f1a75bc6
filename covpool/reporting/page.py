"""The report's page: one HTML file that opens without a network, needs no scripts, and prints well.

The template contains all words that do not depend on the runs; this module prepares what it shows. Names of classes and
files come from users' data: the template escapes everything except our own style sheet and drawings.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from covpool.pipeline import artifacts
from covpool.reporting import accuracy, charts, gallery, sentences, tables, wording
from covpool.reporting.dataset import DataSet, face_totals, read_dataset
from covpool.reporting.exported import export_table
from covpool.reporting.published import published_figures
from covpool.reporting.runs import Evaluation, Run
from covpool.reporting.work import flatten

TEMPLATES = Path(__file__).with_name("templates")

#: With more classes there is no confusion table on the page; `evaluation/` has it.
CONFUSION_CLASSES = 30

#: The split that the sheet of aligned faces shows.
SHEET_SPLIT = "train"

#: Digits of a hash that are shown: enough to tell two apart.
SHOWN_HASH = 12

ENVIRONMENT = (
    ("Device", "device.name"),
    ("Devices", "device.count"),
    ("Driver", "device.driver"),
    ("Threads per operation", "device.threads"),
    ("TensorFlow", "tensorflow.version"),
    ("TensorFlow build", "tensorflow.build"),
    ("Python", "tensorflow.python"),
    ("Host processor", "host.cpu"),
    ("Host cores", "host.cores"),
    ("Host memory", "host.memory_bytes"),
    ("System", "host.system"),
    ("Code revision", "code.revision"),
    ("Changed since that revision", "code.modified"),
    ("Hash of the code", "code.hash"),
    ("Resumed", "progress.resumed"),
    ("Start-up in seconds", "speed.start_up"),
    ("First step with compilation in seconds", "speed.first_step"),
    ("Content hash of the record", "content_hash"),
)


def render(root: Path, runs: Sequence[Run], comparison: dict) -> str:
    """Return the HTML of the page.

    Args:
        root: The project's folder, with `data/`.
        runs: The runs, also those that could not be read.
        comparison: The comparison of the runs.
    """
    usable = [run for run in runs if run.usable]
    entries = {entry["name"]: entry for entry in comparison["runs"]}
    dataset = read_dataset(root)
    return _template().render(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        runs=[_run(run, entries[run.name], number, dataset, root) for number, run in enumerate(usable)],
        absent=[run for run in runs if not run.usable],
        comparison=comparison,
        port_tables=tables.port_tables(comparison) if any(run.kind in ("npu", "gpu") for run in usable) else [],
        remarks=sentences.remarks_on_runs(comparison),
        verdicts=sentences.verdicts(comparison),
        caveats=sentences.caveats(comparison),
        accuracy_table=tables.accuracy_table(comparison),
        published_table=tables.published_table(comparison),
        reference_table=tables.reference_table(comparison),
        figures_table=tables.figures_table(comparison),
        conditions_table=tables.conditions_table(comparison),
        export_table=export_table(root, runs),
        published_statement=sentences.published_statement(comparison),
        published=published_figures(),
        charts=_charts(usable),
        health=_health_charts(usable),
        step_times=charts.step_times(usable, description="Box plot of the time of a step of each run"),
        step_rows=[(run.title, charts.step_quantiles(run)) for run in usable if len(run.times)],
        dataset=dataset,
        face_totals=_face_totals(dataset),
        faces=_faces(root, dataset),
        worst=gallery.worst_sheet(root),
        environment=_environment_table(usable),
        parameters=_parameters(usable),
    )


@functools.cache
def _template():
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        share=wording.share,
        fixed=wording.fixed,
        seconds=wording.seconds,
        count=wording.count,
        duration=wording.duration,
        interval=wording.interval,
        percent=wording.short_percent,
        network=tables.model_text,
        breakable=_breakable,
    )
    return environment.get_template("index.html.j2")


def _breakable(name: str) -> Markup:
    """A file name that a browser may break after a separator, and not within a word."""
    return Markup("<wbr>").join(re.findall(r".+?(?:[/_-]+|$)", name, re.DOTALL))


def _run(run, compared, number, dataset, root):
    return {
        "run": run,
        "entry": compared,
        "series": number % len(charts.SERIES) + 1,
        "splits": [
            {
                "split": split,
                "scores": evaluation.scores,
                "summary": compared["evaluations"][split],
                "near_chance": accuracy.is_near_chance(evaluation.scores),
                "confusion": _confusion(evaluation.scores),
                **_examples(run, evaluation, dataset, root),
            }
            for split, evaluation in run.evaluations.items()
        ],
    }


def _confusion(scores):
    """Rows `(scores of a class, [(predicted class, images, share of the row)])`, or None for too many classes."""
    if len(scores["classes"]) > CONFUSION_CLASSES:
        return None
    rows = []
    for entry, counts in zip(scores["per_class"], scores["confusion"], strict=True):
        total = sum(counts)
        cells = [
            (other, images, images / total if total else 0.0)
            for other, images in zip(scores["classes"], counts, strict=True)
        ]
        rows.append((entry, cells))
    return rows


def _examples(run: Run, evaluation: Evaluation, dataset: DataSet, root: Path) -> dict:
    """The examples of an evaluation, or why there are none."""
    nothing = {"examples": None}
    if dataset.hash is None:
        return {
            **nothing,
            "examples_note": "No examples: data/faces does not exist (run `dvc repro normalise`).",
        }
    if run.value("data.hash") != dataset.hash:
        return {**nothing, "examples_note": "No examples: data/faces changed after this run (its hash differs)."}
    try:
        faces = gallery.Faces(root, evaluation.scores["split"])
    except artifacts.ArtifactError as error:
        return {**nothing, "examples_note": f"No examples: {error}".replace(f"{root}/", "")}
    wrong, right = gallery.examples(evaluation.predictions, faces)
    return {"examples": {"wrong": wrong, "right": right}, "examples_note": None}


def _faces(root, dataset):
    try:
        return gallery.face_strips(gallery.Faces(root, SHEET_SPLIT), dataset.classes)
    except artifacts.ArtifactError:
        return None


def _face_totals(dataset):
    return [(split, face_totals(dataset.faces, split, dataset.classes)) for split in dataset.faces or ()]


def _charts(runs):
    train_val = "Solid: train, mean over the steps of the epoch. Dashed: val, after the epoch."
    drawn = (
        (
            "Loss",
            "Total: cross entropy, L2 term and center loss.",
            charts.curve(runs, "loss", [("loss", "train", "-")], description="Total loss over the epochs"),
        ),
        (
            "Cross entropy",
            train_val,
            charts.curve(
                runs,
                "cross-entropy",
                [("cross_entropy", "train", "-"), ("val_cross_entropy", "val", "--")],
                description="Cross entropy of training and validation over the epochs",
            ),
        ),
        (
            "Accuracy",
            train_val,
            charts.curve(
                runs,
                "accuracy",
                [("accuracy", "train", "-"), ("val_accuracy", "val", "--")],
                unit="%",
                description="Accuracy of training and validation over the epochs",
            ),
        ),
        (
            "Learning rate",
            "As applied during the epoch.",
            charts.curve(
                runs,
                "learning-rate",
                [("learning_rate", "rate", "-")],
                steps=True,
                description="Learning rate over the epochs",
            ),
        ),
    )
    return [(title, caption, svg) for title, caption, svg in drawn if svg]


def _health_charts(runs):
    drawn = (
        (
            "Orthogonality",
            "Largest entry of |WᵀW − I| for the BiMap weight W: near rounding while W is on the Stiefel manifold.",
            charts.curve(
                runs,
                "orthogonality",
                [("orthogonality", "W", "-")],
                width=charts.SMALL,
                description="Orthogonality error of W over the epochs",
            ),
        ),
        (
            "Clipped eigenvalues",
            "Share of eigenvalues that ReEig raised to its floor or lowered to its ceiling.",
            charts.curve(
                runs,
                "clipped",
                [("clipped", "share", "-")],
                unit="%",
                width=charts.SMALL,
                description="Share of clipped eigenvalues over the epochs",
            ),
        ),
        (
            "Condition number",
            "Largest over smallest eigenvalue of the input of LogEig.",
            charts.curve(
                runs,
                "condition",
                [("condition", "number", "-")],
                width=charts.SMALL,
                description="Condition number over the epochs",
            ),
        ),
    )
    return [(title, caption, svg) for title, caption, svg in drawn if svg]


def _environment_table(runs):
    """What each run ran on: what every kind of device records, then the settings of its own kind."""
    known = {path for _, path in ENVIRONMENT}
    settings = [key for run in runs for key in flatten(run.value("device"), "device.") if key not in known]
    settings += [f"host.settings.{key}" for run in runs for key in sorted(run.value("host.settings") or ())]
    rows = [*ENVIRONMENT, *((_setting_name(path), path) for path in dict.fromkeys(settings))]
    return _table(runs, [(name, [_environment(run, path) for run in runs]) for name, path in rows])


def _setting_name(path):
    return path.replace("device.", "Device: ", 1).replace("host.settings.", "Environment: ", 1)


def _environment(run, path):
    value = run.value(path)
    if path == "host.memory_bytes":
        return wording.gibibytes(value)
    if path in ("content_hash", "code.hash") and value:
        return value[:SHOWN_HASH]
    return _number(value)


def _parameters(runs):
    """The parameters, one row per key and one column per run, or a single column if all runs have the same."""
    flat = [flatten(run.value("parameters") or {}) for run in runs]
    keys = list(dict.fromkeys(key for parameters in flat for key in parameters))
    return _table(runs, [(key, [_number(parameters.get(key)) for parameters in flat]) for key in keys])


def _table(runs, rows):
    """Headings and rows `(name, cells, differs)`. Rows that no run has are left out; equal columns become one."""
    rows = [(name, cells) for name, cells in rows if any(cell != wording.ABSENT for cell in cells)]
    if len(runs) > 1 and all(len(set(cells)) == 1 for _, cells in rows):
        return {"headings": ["all runs"], "rows": [(name, cells[:1], False) for name, cells in rows]}
    return {
        "headings": [run.title for run in runs],
        "rows": [(name, cells, len(set(cells)) > 1) for name, cells in rows],
    }


def _number(value):
    """A value of a record as text: short numbers, lists as they are written, a dash for a missing value."""
    if value is None:
        return wording.ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return ", ".join(f"[{_number(item)}]" if isinstance(item, list) else _number(item) for item in value)
    return str(value) if value != "" else "''"
