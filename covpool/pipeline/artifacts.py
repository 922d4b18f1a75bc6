"""The files that one stage writes and another reads: their paths, their columns, and how to read and write them.

All files are CSV, JSON or `.npy` (never pickled), so that both interpreters of the project, and people, can read them.
A file appears completely or not at all: it is written under a temporary name in the same folder, flushed to the disk
and then renamed. JSON and CSV are written in a fixed order and format, so that equal content gives equal bytes.
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
from typing import IO, Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple, Union

RAW = Path("data/raw")
VALIDATED = Path("data/validated")
FACES = Path("data/faces")
SHEETS = Path("data/sheets")
NORMALISE_COUNTS = Path("data/normalise.json")
MODELS = Path("models")
RUNS = Path("runs")
EVALUATION = Path("evaluation")
EXPORTS = Path("exports")
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
#: One row per epoch. Losses and the training accuracy are means over the steps of the epoch. Nothing here depends on a
#: clock.
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
#: The tables of a run. The record of the run holds their hashes.
RUN_TABLES = ("history.csv", "times.csv")
#: One row per step (or per device loop of `steps` steps): seconds per step, and how many of them were spent waiting for
#: data. The first step of a process also prepares the graph: its `warm_up` is true, and averages leave it out.
TIMES_COLUMNS = ("epoch", "step", "steps", "seconds", "waiting_seconds", "warm_up")


PathLike = Union[str, Path]


def predictions_columns(class_names: Iterable[str]) -> Tuple[str, ...]:
    """Return the columns of `predictions.csv`: the picture, both classes, and one probability for each class."""
    return ("source", "actual", "predicted", "confidence") + tuple("p_" + name for name in class_names)


class ArtifactError(Exception):
    """A file of the pipeline is missing, damaged, or has another form than expected."""


@contextlib.contextmanager
def atomic_file(path: PathLike, mode: str = "w") -> Iterator[IO]:
    """Open a file that gets the name `path` only if the block ends without an error.

    Args:
        path: The final path. Missing folders are created.
        mode: "w" for UTF-8 text without translation of line ends, or "wb" for bytes.

    Yields:
        The open file.
    """
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


def _umask() -> int:
    # The mask of the process can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def dump_json(content: Any) -> str:
    """Return the text that `write_json` writes.

    Raises:
        ValueError: A number is not finite; JSON has neither nan nor inf.
    """
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: PathLike, content: Any) -> None:
    """Write a JSON value as `dump_json` formats it.

    Raises:
        ValueError: A number is not finite.
    """
    text = dump_json(content)
    with atomic_file(path) as stream:
        stream.write(text)


def read_json(path: PathLike) -> Any:
    """Return the content of a JSON file.

    Raises:
        ArtifactError: The file is missing or unreadable, or holds something that `write_json` can not write, such as
            nan or half of a surrogate pair.
    """
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
        raise ArtifactError(f"{path} is not valid JSON ({error}): run the stage that writes it again.") from None


#: The stages write a few levels only. This limit keeps recursion over a damaged file far below Python's own limit.
DEEPEST_JSON = 50


def _check_json(value: Any, depth: int = 0) -> None:
    """Raise ValueError if `write_json` could not write the value again."""
    if depth > DEEPEST_JSON:
        raise ValueError(f"it is nested more than {DEEPEST_JSON} levels deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_json(key)
            _check_json(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth + 1)
    elif isinstance(value, str):
        # JSON can escape half of a surrogate pair, but UTF-8 can not encode it.
        value.encode("utf-8")
    elif isinstance(value, (int, float)) and not abs(value) <= sys.float_info.max:
        raise ValueError("it holds a number that is not finite")


def _unreadable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(f"{path} can't be read: {error.strerror or error}.")


def write_csv(path: PathLike, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write dictionaries as the rows of a CSV file.

    Args:
        path: The file.
        columns: The names of the columns, in order.
        rows: One dictionary per row. A missing value or None becomes an empty cell. A float is written so that reading
            it gives the same value.

    Raises:
        ValueError: A row has a key that is not in `columns`.
    """
    with atomic_file(path) as stream:
        stream.write(csv_line(columns))
        for row in rows:
            unknown = set(row) - set(columns)
            if unknown:
                raise ValueError(f"{path}: no such column: {', '.join(sorted(unknown))}")
            stream.write(csv_line([_cell(row.get(column)) for column in columns]))


def csv_line(cells: Iterable[str]) -> str:
    """Return one line of a CSV file, with its newline."""
    # Not csv.writer: if lines end in a bare newline, it does not quote a carriage return inside a cell.
    quoted = ['"{}"'.format(cell.replace('"', '""')) if set(cell) & set(',"\r\n') else cell for cell in cells]
    return (",".join(quoted) or '""') + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = value.item() if hasattr(value, "dtype") else value
        return repr(number) if not isinstance(number, float) or math.isfinite(number) else str(number)
    return str(value)


def read_csv(path: PathLike, columns: Sequence[str] = ()) -> List[Dict[str, str]]:
    """Read a CSV file.

    Args:
        path: The file.
        columns: Names of columns that the file must have. It may have more.

    Returns:
        One dictionary per row, from the name of the column to the text of the cell.

    Raises:
        ArtifactError: The file is missing, unreadable or not valid CSV, lacks a column, or has a row with too few or
            too many cells.
    """
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
        raise ArtifactError(f"{path} is not valid CSV ({error}): run the stage that writes it again.") from None
    missing = [column for column in columns if column not in found]
    if missing:
        # A damaged header may be long or have line breaks; the message stays on one line.
        there = textwrap.shorten(", ".join(found), 500)
        raise ArtifactError(f"{path} lacks the column {', '.join(missing)}; it has {there}.")
    for number, row in enumerate(rows, 1):
        # The csv module stores extra cells under the key None, and fills missing cells with the value None.
        if None in row or None in row.values():
            raise ArtifactError(f"{path}: row {number} does not have {len(found)} cells.")
    return rows


def sha256_file(path: PathLike) -> str:
    """Return the hexadecimal SHA-256 of the bytes of a file."""
    digest = hashlib.sha256()
    with open(str(path), "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def file_hashes(folder: PathLike, names: Iterable[str]) -> Dict[str, str]:
    """Return `{name: SHA-256}` of files in a folder.

    A sealed record holds this under `files`, for the files that lie in its folder.
    """
    return {name: sha256_file(Path(folder) / name) for name in names}


def content_hash(content: Any) -> str:
    """Return the hexadecimal SHA-256 of a JSON value; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def seal(record: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the record of a run with its own hash in `content_hash`, so that `seal_is_intact` detects later edits."""
    body = {key: value for key, value in record.items() if key != "content_hash"}
    return dict(body, content_hash=content_hash(body))


def seal_is_intact(record: Mapping[str, Any]) -> bool:
    """Return whether the record is unchanged since `seal`; False also for a record that was never sealed."""
    return seal(record)["content_hash"] == record.get("content_hash")


def checkpoint_hash(prefix: PathLike) -> str:
    """Return one hash of the files of a TensorFlow V2 checkpoint that hold its weights.

    Args:
        prefix: The path of the checkpoint's .index and .data files without these endings. The name itself does not
            change the hash.

    Raises:
        ArtifactError: There is no checkpoint at `prefix`.
    """
    place = Path(prefix)
    files = sorted(path for path in place.parent.glob("*") if path.name.startswith(place.name + "."))
    parts = [[path.name[len(place.name) :], sha256_file(path)] for path in files if path.suffix != ".meta"]
    if not parts:
        raise ArtifactError(
            f"no checkpoint at {prefix}: expected the path of its .index and .data files without these endings."
        )
    return content_hash(parts)


def faces_hash(folder: PathLike) -> str:
    """Return one hash of a normalised data set: of the names and bytes of its arrays, tables and class list."""
    folder = Path(folder)
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".npy", ".csv", ".json"))
    return content_hash([[name, sha256_file(folder / name)] for name in names])
