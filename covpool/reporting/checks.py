"""What a record, an evaluation and the tables beside them must say, so that everything after can use them as they are.

Whatever stands in a file, reading it ends in its content or in one sentence on what is wrong with it.
"""

import contextlib
import math
import textwrap

import numpy as np

from covpool.pipeline import artifacts

KINDS = ("npu", "gpu", "cpu")
RECORD_FORMAT = 1

#: A record and its history are written from the same numbers; they differ by rounding at most.
SAME_NUMBER = 1e-6
#: No quantity of a run comes near it, and ratios and multiples of smaller numbers stay finite.
LARGEST = 1e100
#: More steps than any training has; `times.csv` is spread to a value a step.
MOST_STEPS = 10_000_000

SECTIONS = (
    "device",
    "tensorflow",
    "host",
    "parameters",
    "data",
    "code",
    "progress",
    "loss",
    "accuracy",
    "speed",
    "memory",
    "energy",
)
#: Sections of numbers, or nulls where there is none, but for one text.
NUMBERS = ("loss", "accuracy", "speed", "memory", "energy")
TEXTS = ("energy.source",)
PROGRESS = ("epochs", "epoch_size", "steps", "batch_size")
CHECKPOINTS = ("best", "last")


def is_number(value):
    """Whether a JSON value is a finite number that a run can come up with."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_whole(value):
    return isinstance(value, int) and is_number(value) and value >= 0


def _is_count(value):
    return _is_whole(value) and value > 0


def _is_text(value):
    return isinstance(value, str)


def _is_named(value):
    return isinstance(value, dict)


def _are_texts(value):
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_counted(value):
    return isinstance(value, dict) and all(map(_is_whole, value.values()))


def _is_schedule(value):
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and _is_whole(pair[0]) and is_number(pair[1]) for pair in value
    )


#: Entries that the comparison computes with or takes apart: path -> test and what is wanted. Any may be null.
_ENTRIES = {
    "files": (_are_texts, "hashes by name"),
    "device.name": (_is_text, "a text"),
    "device.count": (_is_count, "a whole number, 1 or more"),
    "tensorflow.version": (_is_text, "a text"),
    "tensorflow.build": (_is_text, "a text"),
    "host.memory_bytes": (is_number, "a number"),
    "host.settings": (_is_named, "values by name"),
    "data.kind": (_is_text, "a text"),
    "data.hash": (_is_text, "a text"),
    "data.pretrained": (_is_text, "a text"),
    "data.images": (_is_counted, "whole numbers by split"),
    "code.hash": (_is_text, "a text"),
    "parameters.network": (_is_named, "values by name"),
    "parameters.train": (_is_named, "values by name"),
    "parameters.train.learning_rate": (is_number, "a number"),
    "parameters.train.schedule": (_is_schedule, "pairs of epoch and rate"),
    "parameters.train.learning_rate_decay_factor": (is_number, "a number"),
    "progress.steps_per_loss": (_is_count, "a whole number, 1 or more"),
    "progress.learning_rates": (_is_schedule, "pairs of epoch and rate"),
    **{text: (_is_text, "a text") for text in TEXTS},
}


def value_at(content, path):
    """The entry at a dotted path of nested dictionaries, or None where there is none."""
    for key in path.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return content


def record_problem(record, name):
    """Why the content of a `run.json` can't be believed to be the record of the run `name`, or None."""
    if not isinstance(record, dict) or "content_hash" not in record:
        return "run.json has no content hash: it was not written by the training"
    if not artifacts.seal_is_intact(record):
        return "run.json was edited after the training wrote it: its content hash does not match"
    if record.get("format") != RECORD_FORMAT:
        return f"run.json has format {_shown(record.get('format'))}; this report reads format {RECORD_FORMAT}"
    if record.get("name") != name:
        return f"run.json is the record of the run {_shown(record.get('name'))}, not of {name!r}"
    if record.get("kind") not in KINDS:
        return f"run.json names the kind {_shown(record.get('kind'))}; known are {', '.join(KINDS)}"
    lacking = [key for key in SECTIONS if not isinstance(record.get(key), dict)]
    lacking += [f"progress.{key}" for key in PROGRESS if not _is_count(value_at(record, f"progress.{key}"))]
    if lacking:
        return f"run.json lacks {', '.join(lacking)}"
    wrong = [
        f"{section}.{key}"
        for section in NUMBERS
        for key, value in record[section].items()
        if value is not None and not is_number(value) and f"{section}.{key}" not in TEXTS
    ]
    if wrong:
        # In one line, whatever the keys are.
        return f"run.json has no number at {textwrap.shorten(', '.join(wrong), 300)}"
    return _wrong_entry("run.json", record, _ENTRIES)


def _wrong_entry(file, content, entries):
    for path, (test, wanted) in entries.items():
        value = value_at(content, path)
        if value is not None and not test(value):
            return f"{file} has at {path} {_shown(value)}, wanted {wanted}"
    return None


#: Longest value that a reason shows.
_SHOWN = 60


def _shown(value):
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


_MEASURES = ("split", "checkpoint", "accuracy", "mean_class_accuracy", "macro_f1", "cross_entropy")
_SCORES = {
    "files": (_are_texts, "hashes by name"),
    "split": (lambda value: value in artifacts.SPLITS, f"one of {', '.join(artifacts.SPLITS)}"),
    "checkpoint": (lambda value: value in CHECKPOINTS, f"one of {', '.join(CHECKPOINTS)}"),
    "epoch": (_is_whole, "a whole number"),
    **{key: (is_number, "a number") for key in _MEASURES[2:]},
}


def scores_problem(scores):
    """Why the content of a `scores.json` can't be used, or None.

    The confusion table is the ground for every score: what it does not bear out was edited or mixed up.
    """
    if not isinstance(scores, dict) or not _are_names(scores.get("classes")):
        return "scores.json has no class list"
    if "content_hash" in scores and not artifacts.seal_is_intact(scores):
        return "scores.json was edited after the evaluation wrote it: its content hash does not match"
    size = len(scores["classes"])
    confusion = scores.get("confusion")
    if not _is_table(confusion, size):
        return f"scores.json has no confusion table of {size} rows of {size} counts"
    confusion = np.array(confusion, dtype=float).reshape(size, size)
    total = confusion.sum()
    if not same(total, scores.get("images")):
        return f"scores.json counts {_shown(scores.get('images'))} images, its confusion table {total:.0f}"
    accuracy = np.trace(confusion) / total if total else None
    if total and not same(accuracy, scores.get("accuracy")):
        return f"scores.json says accuracy {_shown(scores.get('accuracy'))}, its confusion table {accuracy:.6g}"
    if not _are_class_rows(scores.get("per_class"), scores["classes"]):
        return "scores.json has no row of images, precision, recall and f1 for each class"
    lacking = [key for key in _MEASURES if scores.get(key) is None] + ["epoch"] * ("epoch" not in scores)
    if lacking:
        return f"scores.json lacks {', '.join(lacking)}"
    return _wrong_entry("scores.json", scores, _SCORES)


def _are_names(value):
    return isinstance(value, list) and value and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_table(value, size):
    return (
        isinstance(value, list)
        and len(value) == size
        and all(isinstance(row, list) and len(row) == size and all(map(_is_whole, row)) for row in value)
    )


def _are_class_rows(rows, classes):
    measures = ("precision", "recall", "f1")
    return (
        isinstance(rows, list)
        and all(map(_is_named, rows))
        and [row.get("class") for row in rows] == classes
        and all(_is_whole(row.get("images")) and set(measures) <= set(row) for row in rows)
        and all(row[key] is None or is_number(row[key]) for row in rows for key in measures)
    )


def edited_files(content, folder, names):
    """Those of the files whose hash a record or an evaluation holds that are no longer what was written with it.

    What is missing or can't be read is not among them: whoever reads it says so.
    """
    hashes, found = content.get("files") or {}, []
    for name in names:
        with contextlib.suppress(OSError):
            if name in hashes and artifacts.sha256_file(folder / name) != hashes[name]:
                found.append(name)
    return found


def same(value, other):
    """Whether the JSON value `other` is the number `value`, but for rounding."""
    return is_number(other) and math.isclose(value, other, rel_tol=SAME_NUMBER, abs_tol=SAME_NUMBER)


def read_history(path):
    """`history.csv`: a dictionary of numbers an epoch, None for an empty cell. Raises ArtifactError."""
    rows = [
        {column: _history_number(path, number, column, row[column]) for column in artifacts.HISTORY_COLUMNS}
        for number, row in enumerate(artifacts.read_csv(path, artifacts.HISTORY_COLUMNS), 1)
    ]
    for number, row in enumerate(rows, 1):
        if row["epoch"] != number:
            raise artifacts.ArtifactError(f"{path}: row {number} is of epoch {row['epoch']}, wanted {number}.")
    return rows


def _history_number(path, number, column, text):
    # A measure that is not finite is told as such, and has no point in a chart.
    try:
        value = float(text) if text else None
        if value is None or not math.isfinite(value) or is_number(value):
            return value
    except ValueError:
        pass
    raise artifacts.ArtifactError(f"{path}: row {number} has {_shown(text)} as {column}, wanted a number.")


def read_times(path):
    """`times.csv`: arrays `epoch` and `seconds`, a value a step, without the steps that also prepared a graph.

    A row of a device loop holds the mean of its steps, and counts once for each of them. Raises ArtifactError.
    """
    found = []
    for number, row in enumerate(artifacts.read_csv(path, artifacts.TIMES_COLUMNS), 1):
        try:
            epoch, steps, seconds = int(row["epoch"]), int(row["steps"]), float(row["seconds"])
        except ValueError:
            epoch = steps = seconds = -1
        if not (0 < epoch < MOST_STEPS and 0 < steps < MOST_STEPS and 0 < seconds < LARGEST):
            raise artifacts.ArtifactError(
                f"{path}: row {number} has {_shown(row['epoch'])} as epoch, {_shown(row['steps'])} as steps and "
                f"{_shown(row['seconds'])} as seconds, wanted positive numbers."
            )
        if row["warm_up"] != "true":
            found.append((epoch, steps, seconds))
    repeats = [steps for _, steps, _ in found]
    if sum(repeats) > MOST_STEPS:
        raise artifacts.ArtifactError(f"{path} counts more than {MOST_STEPS} steps.")
    return {
        "epoch": np.repeat(np.array([epoch for epoch, _, _ in found], dtype=float), repeats),
        "seconds": np.repeat(np.array([seconds for _, _, seconds in found], dtype=float), repeats),
    }


def read_predictions(path, scores):
    """The rows of `predictions.csv` (text) of an evaluation whose `scores.json` is `scores`. Raises ArtifactError."""
    columns = artifacts.predictions_columns(scores["classes"])
    rows = artifacts.read_csv(path, columns)
    if len(rows) != scores["images"]:
        raise artifacts.ArtifactError(f"{path} has {len(rows)} pictures, scores.json {scores['images']}.")
    for number, row in enumerate(rows, 1):
        named = row["actual"] in scores["classes"] and row["predicted"] in scores["classes"]
        if not named or not all(_is_share(row[column]) for column in columns[3:]):
            raise artifacts.ArtifactError(f"{path}: row {number} does not hold two classes and shares from 0 to 1.")
    return rows


def _is_share(text):
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
