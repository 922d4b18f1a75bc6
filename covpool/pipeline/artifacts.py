"""The files that the stages hand to each other: where they lie, their columns, and how they are read and written.

Everything is CSV, JSON or `.npy` (never pickled), so that both interpreters of the project, and people, can read it.
A file appears whole or not at all: it is written under another name in its folder, flushed to the disk and renamed.
JSON and CSV are written with a fixed order and format, so that equal content means equal bytes.
"""

import contextlib
import csv
import hashlib
import json
import math
import os
import sys
import tempfile
import textwrap
from pathlib import Path

RAW = Path("data/raw")
VALIDATED = Path("data/validated")
FACES = Path("data/faces")
SHEETS = Path("data/sheets")
NORMALISE_COUNTS = Path("data/normalise.json")
MODELS = Path("models")
RUNS = Path("runs")
EVALUATION = Path("evaluation")
REPORTS = Path("reports")

SPLITS = ("train", "val", "test")

MANIFEST_COLUMNS = ("path", "split", "class", "sha256", "source", "subject")
VALIDATED_COLUMNS = MANIFEST_COLUMNS + (
    "width",
    "height",
    "mode",
    "format",
    "brightness",
    "status",
    "reason",
    "notes",
    "duplicate_of",
    "duplicate_kind",
    "distance",
)
LANDMARK_COLUMNS = tuple(
    f"{point}_{axis}" for point in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for axis in "xy"
)
FACES_COLUMNS = (
    "label",
    "class",
    "source",
    "sha256",
    "method",
    "score",
    "box_x",
    "box_y",
    "box_w",
    "box_h",
) + LANDMARK_COLUMNS
#: One row an epoch. Losses and the training accuracy are means over the epoch's steps; nothing here depends on a clock.
HISTORY_COLUMNS = (
    "epoch",
    "steps",
    "learning_rate",
    "loss",
    "cross_entropy",
    "l2_loss",
    "center_loss",
    "accuracy",
    "val_cross_entropy",
    "val_accuracy",
    "orthogonality",
    "clipped",
    "condition",
)
#: The tables of a run, whose hashes its record holds.
RUN_TABLES = ("history.csv", "times.csv")
#: One row a step (or a device loop of `steps` steps): seconds a step, and the part of them spent waiting for data.
#: The first step of a process also prepares the graph: its `warm_up` is true, and no average counts it.
TIMES_COLUMNS = ("epoch", "step", "steps", "seconds", "waiting_seconds", "warm_up")


def predictions_columns(classes):
    """Columns of `predictions.csv`: the picture, the true and the predicted class, and a probability a class."""
    return ("source", "actual", "predicted", "confidence") + tuple("p_" + name for name in classes)


class ArtifactError(Exception):
    """A file of the pipeline is missing or does not say what it should."""


@contextlib.contextmanager
def atomic_file(path, mode="w"):
    """Open a file that takes the name `path` only when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    handle, temporary = tempfile.mkstemp(prefix="." + path.name + ".", dir=str(path.parent))
    try:
        with os.fdopen(handle, mode, **options) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, str(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask():
    # The process's mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def dump_json(content):
    """The text that `write_json` writes. Numbers that JSON does not have (nan, inf) are refused."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path, content):
    text = dump_json(content)
    with atomic_file(path) as stream:
        stream.write(text)


def read_json(path):
    """The content of a JSON file. What `write_json` would not write (nan, text that is no Unicode) is no JSON here."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _check_json(content)
        return content
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing: run the stage that writes it (`dvc repro`).") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is no JSON ({error}): run the stage that writes it again.") from None


#: Nothing that the stages write is nested deeper than a few levels; what follows the levels down stays far from
#: Python's limit.
DEEPEST_JSON = 50


def _check_json(value, depth=0):
    if depth > DEEPEST_JSON:
        raise ValueError(f"nested more than {DEEPEST_JSON} deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_json(key)
            _check_json(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth + 1)
    elif isinstance(value, str):
        # Half of a surrogate pair can be escaped in JSON, but not be written.
        value.encode("utf-8")
    elif isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max:
        raise ValueError("holds a number that is not finite")


def _unreadable(path, error):
    return ArtifactError(f"{path} can't be read: {error.strerror or error}.")


def write_csv(path, columns, rows):
    """Write dictionaries as CSV. A float is written so that it reads back the same; None is an empty cell."""
    with atomic_file(path) as stream:
        stream.write(csv_line(columns))
        for row in rows:
            unknown = set(row) - set(columns)
            if unknown:
                raise ValueError("{}: no such column: {}".format(path, ", ".join(sorted(unknown))))
            stream.write(csv_line([_cell(row.get(column)) for column in columns]))


def csv_line(cells):
    """One line of a CSV, of cells of text."""
    # Not csv.writer: with lines that end in a bare newline it leaves a carriage return inside a cell unquoted.
    quoted = ['"{}"'.format(cell.replace('"', '""')) if set(cell) & set(',"\r\n') else cell for cell in cells]
    return (",".join(quoted) or '""') + "\n"


def _cell(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = value.item() if hasattr(value, "dtype") else value
        return repr(number) if not isinstance(number, float) or math.isfinite(number) else str(number)
    return str(value)


def read_csv(path, columns=()):
    """Read a CSV as a list of dictionaries of text; `columns` must be among those it has."""
    path = Path(path)
    try:
        with open(str(path), encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            found = reader.fieldnames or []
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing: run the stage that writes it (`dvc repro`).") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except (csv.Error, ValueError) as error:
        raise ArtifactError(f"{path} is no CSV ({error}): run the stage that writes it again.") from None
    missing = [column for column in columns if column not in found]
    if missing:
        # In one line, whatever stands where the columns should be.
        there = textwrap.shorten(", ".join(found), 500)
        raise ArtifactError("{} lacks the column {}; it has {}.".format(path, ", ".join(missing), there))
    for number, row in enumerate(rows, 1):
        # The csv module puts cells too many under None, and None where they are too few.
        if None in row or None in row.values():
            raise ArtifactError(f"{path}: row {number} does not have {len(found)} cells.")
    return rows


def sha256_file(path):
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(str(path), "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def file_hashes(folder, names):
    """`{name: SHA-256}` of files in a folder: what a sealed record holds of those beside it, under `files`."""
    return {name: sha256_file(Path(folder) / name) for name in names}


def content_hash(content):
    """Hexadecimal SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def seal(record):
    """A run record with its own hash in `content_hash`, so that an edit by hand is noticed (`seal_is_intact`)."""
    body = {key: value for key, value in record.items() if key != "content_hash"}
    return dict(body, content_hash=content_hash(body))


def seal_is_intact(record):
    return seal(record)["content_hash"] == record.get("content_hash")


def checkpoint_hash(prefix):
    """One hash of the files of a TensorFlow V2 checkpoint that hold its weights, whatever they are called."""
    place = Path(prefix)
    files = sorted(path for path in place.parent.glob("*") if path.name.startswith(place.name + "."))
    parts = [[path.name[len(place.name) :], sha256_file(path)] for path in files if path.suffix != ".meta"]
    if not parts:
        raise ArtifactError(
            f"no checkpoint at {prefix}: wanted the path of its .index and .data files without these endings."
        )
    return content_hash(parts)


def faces_hash(folder):
    """One hash of a normalised data set: names and bytes of its arrays, tables and class list."""
    folder = Path(folder)
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".npy", ".csv", ".json"))
    return content_hash([[name, sha256_file(folder / name)] for name in names])
