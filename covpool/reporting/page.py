"""The report's page: one HTML file that opens without a network, without scripts, and prints.

The template holds all words that do not depend on the runs; here is what it shows. Names of classes and files come
from users' data: the template escapes everything, and only our own style sheet and drawings are passed as they are.
"""

import functools
from pathlib import Path

import jinja2
from markupsafe import Markup

from covpool.pipeline import artifacts
from covpool.reporting import charts, gallery, sentences, tables
from covpool.reporting.comparison import flatten
from covpool.reporting.dataset import face_totals, read_dataset
from covpool.reporting.published import published_figures

TEMPLATES = Path(__file__).with_name("templates")

#: More classes than this are left out of the confusion table's page form; `evaluation/` has all of them.
CONFUSION_CLASSES = 30

#: The split that the sheet of aligned faces shows.
SHEET_SPLIT = "train"

#: Digits of a hash that are shown: enough to tell two apart.
SHOWN_HASH = 12

ENVIRONMENT = (
    ("Device", "device.name"),
    ("Devices", "device.count"),
    ("Driver", "device.driver"),
    ("Threads of an operation", "device.threads"),
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
    ("Start-up, in seconds", "speed.start_up"),
    ("First step with compilation, in seconds", "speed.first_step"),
    ("Record's content hash", "content_hash"),
)


def render(root, runs, comparison):
    """The page's HTML, from what lies below `root`, the `Run`s and their comparison."""
    usable = [run for run in runs if run.usable]
    entries = {entry["name"]: entry for entry in comparison["runs"]}
    dataset = read_dataset(root)
    return _template().render(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        runs=[_run(run, entries[run.name], number, dataset, root) for number, run in enumerate(usable)],
        absent=[run for run in runs if not run.usable],
        comparison=comparison,
        port_tables=tables.port_tables(comparison),
        remarks=sentences.remarks_on_runs(comparison),
        verdicts=sentences.verdicts(comparison),
        reference_table=tables.reference_table(comparison),
        figures_table=tables.figures_table(comparison),
        published_conditions=tables.published_conditions(comparison),
        published_statement=sentences.published_statement(comparison),
        published=published_figures(),
        charts=_charts(usable),
        health=_health_charts(usable),
        step_times=charts.step_times(usable, description="Box plot of the time of a step of each run"),
        step_rows=[(run.title, charts.step_quantiles(run)) for run in usable if len(run.times.get("seconds", ()))],
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
        share=tables.share,
        fixed=tables.fixed,
        seconds=tables.seconds,
        count=tables.count,
        percent=_percent,
        network=tables.model_text,
    )
    return environment.get_template("index.html.j2")


def _run(run, compared, number, dataset, root):
    entry = {
        "run": run,
        "entry": compared,
        "series": number % len(charts.SERIES) + 1,
        "evaluation": run.evaluation,
        "examples": None,
        "examples_note": None,
        "confusion": None,
    }
    if run.evaluation:
        entry["confusion"] = _confusion(run.evaluation.scores)
        entry["examples"], entry["examples_note"] = _examples(run, dataset, root)
    return entry


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


def _examples(run, dataset, root):
    if dataset.hash is None:
        return None, "No examples: data/faces is not there (`dvc repro normalise`, or `dvc pull`)."
    if run.value("data.hash") != dataset.hash:
        return None, "The faces in data/faces are not those of this run (their hash differs), so no examples are shown."
    try:
        faces = gallery.Faces(root, run.score("split"))
    except artifacts.ArtifactError as error:
        return None, f"No examples: {error}".replace(f"{root}/", "")
    wrong, right = gallery.examples(run.evaluation.predictions, faces)
    return {"wrong": wrong, "right": right}, None


def _faces(root, dataset):
    try:
        return gallery.face_strips(gallery.Faces(root, SHEET_SPLIT), dataset.classes)
    except artifacts.ArtifactError:
        return None


def _face_totals(dataset):
    return [(split, face_totals(dataset.faces, split, dataset.classes)) for split in dataset.faces or ()]


def _charts(runs):
    train_val = "Training values are means over the epoch's steps; dashed lines are the validation split."
    drawn = (
        (
            "Loss",
            "The total: cross entropy, L2 term and center loss.",
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
            "As applied in the epoch.",
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
            "Largest entry of |WᵀW − I| of the BiMap's W: near rounding while W stays on the manifold.",
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
            "Share that ReEig raised to its floor or lowered to its ceiling.",
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
            "Largest over smallest eigenvalue of what LogEig is given.",
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
    """What each run ran on, with all that its kind of device records beside what every kind has."""
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
        return tables.gibibytes(value)
    if path in ("content_hash", "code.hash") and value:
        return value[:SHOWN_HASH]
    return _number(value)


def _parameters(runs):
    """The parameters, a row a key, with a column a run, or a single one where all runs have the same."""
    flat = [flatten(run.value("parameters") or {}) for run in runs]
    keys = list(dict.fromkeys(key for parameters in flat for key in parameters))
    return _table(runs, [(key, [_number(parameters.get(key)) for parameters in flat]) for key in keys])


def _table(runs, rows):
    """Headings and rows `(name, cells, differs)`; rows that no run has are left out, equal columns are made one."""
    rows = [(name, cells) for name, cells in rows if any(cell != tables.ABSENT for cell in cells)]
    if len(runs) > 1 and all(len(set(cells)) == 1 for _, cells in rows):
        return {"headings": ["all runs"], "rows": [(name, cells[:1], False) for name, cells in rows]}
    return {
        "headings": [run.title for run in runs],
        "rows": [(name, cells, len(set(cells)) > 1) for name, cells in rows],
    }


def _percent(share):
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _number(value):
    """A value of a record as text: numbers short, lists as they are written, absent ones as a dash."""
    if value is None:
        return tables.ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return ", ".join(f"[{_number(item)}]" if isinstance(item, list) else _number(item) for item in value)
    return str(value) if value != "" else "''"
