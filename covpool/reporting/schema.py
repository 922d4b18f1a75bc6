"""What `run.json` and `scores.json` must contain, as pydantic models.

Only what the report computes with, or takes apart, is described. Other keys are allowed: a newer training may write
more than this report reads.
"""

import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from covpool.pipeline import artifacts

KINDS = ("npu", "gpu", "cpu")

#: A record and its tables are written from the same numbers; they differ by rounding at most.
SAME_NUMBER = 1e-6
#: No quantity of a run comes near it, and ratios and multiples of smaller numbers stay finite.
LARGEST = 1e100
#: Longest value that a message shows, and longest list of places.
_SHOWN, _PLACES = 60, 5

Number = Annotated[float, Field(gt=-LARGEST, lt=LARGEST, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=0, lt=int(LARGEST))]
Count = Annotated[int, Field(ge=1, lt=int(LARGEST))]


def _epoch_first(pair):
    if pair[0] < 0 or pair[0] % 1:
        raise ValueError("must have an epoch as the first number of each pair of the schedule")
    return pair


#: Pairs of first epoch and learning rate.
Rates = list[Annotated[list[Number], Field(min_length=2, max_length=2), AfterValidator(_epoch_first)]]
Numbers = dict[str, Number | None]


class _Content(BaseModel):
    # strict: "1" is not a number, and true is not 1.
    model_config = ConfigDict(strict=True, extra="ignore")


class _Device(_Content):
    name: str | None = None
    count: Count | None = None


class _TensorFlow(_Content):
    version: str | None = None
    build: str | None = None


class _Host(_Content):
    memory_bytes: Number | None = None
    settings: dict | None = None


class _Train(_Content):
    learning_rate: Number | None = None
    schedule: Rates | None = None
    learning_rate_decay_factor: Number | None = None


class _Parameters(_Content):
    network: dict | None = None
    train: _Train | None = None


class _Data(_Content):
    kind: str | None = None
    hash: str | None = None
    pretrained: str | None = None
    images: dict[str, Whole] | None = None


class _Code(_Content):
    hash: str | None = None


class _Progress(_Content):
    epochs: Count
    epoch_size: Count
    steps: Count
    batch_size: Count
    steps_per_loss: Count | None = None
    learning_rates: Rates | None = None


class _Energy(_Content):
    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: Numbers
    source: str | None = None


class Record(_Content):
    """The content of `run.json`."""

    format: Literal[1]
    name: str
    kind: Literal[KINDS]
    finished: str | None = None
    files: dict[str, str] | None = None
    device: _Device
    tensorflow: _TensorFlow
    host: _Host
    parameters: _Parameters
    data: _Data
    code: _Code
    progress: _Progress
    loss: Numbers
    accuracy: Numbers
    speed: Numbers
    memory: Numbers
    energy: _Energy


class _ClassScores(_Content):
    name: str = Field(alias="class")
    images: Whole
    precision: Number | None
    recall: Number | None
    f1: Number | None


class Scores(_Content):
    """The content of `scores.json`. The confusion table is the basis of every score, so the two must agree."""

    classes: Annotated[list[str], Field(min_length=1)]
    split: Literal[artifacts.SPLITS]
    checkpoint: Literal["best", "last"]
    epoch: Whole | None
    images: Whole
    accuracy: Number
    mean_class_accuracy: Number
    macro_f1: Number
    cross_entropy: Number
    confusion: list[list[Whole]]
    per_class: list[_ClassScores]
    files: dict[str, str] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> "Scores":
        size = len(self.classes)
        if len(set(self.classes)) < size:
            raise ValueError("lists a class twice")
        if [len(row) for row in self.confusion] != [size] * size:
            raise ValueError(f"must have a confusion table of {size} rows of {size} counts")
        if [row.name for row in self.per_class] != self.classes:
            raise ValueError(
                "must have one row of images, precision, recall and f1 for each class, in the order of the classes"
            )
        confusion = np.array(self.confusion, dtype=float)
        total = confusion.sum()
        if not same_number(total, self.images):
            raise ValueError(f"says {shown(self.images)} images, but its confusion table has {total:.0f}")
        accuracy = np.trace(confusion) / total if total else math.nan
        if not same_number(accuracy, self.accuracy):
            raise ValueError(f"says accuracy {shown(self.accuracy)}, but its confusion table gives {accuracy:.6g}")
        return self


def problem(model: type[BaseModel], file: str, content: object) -> str | None:
    """Return one sentence on what is wrong with the content of a JSON file, or None if it fits the model."""
    try:
        model.model_validate(content)
        return None
    except ValidationError as error:
        found = error.errors(include_url=False)
    missing = [_place(item) for item in found if item["type"] == "missing"]
    if missing:
        return f"{file} lacks {', '.join(missing[:_PLACES])}"
    first = found[0]
    place, text = _place(first), first["msg"]
    if first["type"] == "value_error":
        return f"{file} {text.removeprefix('Value error, ')}"
    return f"{file}: {place or 'its content'} {text.replace('Input should', 'must', 1)}, got {shown(first['input'])}"


def _place(item):
    return shown(".".join(map(str, item["loc"])), str)


def shown(value: object, text=repr) -> str:
    """Return a value for a message: on one line and not too long."""
    line = " ".join(text(value).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def same_number(value: float, other: float) -> bool:
    """Return whether two numbers are equal, apart from rounding."""
    return math.isclose(value, other, rel_tol=SAME_NUMBER, abs_tol=SAME_NUMBER)


def record_problem(record: object, name: str) -> str | None:
    """Return why the content of `run.json` is not the record of the run `name`, or None if it is."""
    if not isinstance(record, dict) or "content_hash" not in record:
        return "run.json has no content hash: it was not written by the training"
    if not artifacts.seal_is_intact(record):
        return "run.json was edited after the training wrote it: its content hash does not match"
    found = problem(Record, "run.json", record)
    if not found and record["name"] != name:
        return f"run.json is the record of the run {shown(record['name'])}, expected {name!r}"
    return found


def scores_problem(scores: object, split: str) -> str | None:
    """Return why the content of `scores.json` is not the evaluation of `split`, or None if it is."""
    if isinstance(scores, dict) and "content_hash" in scores and not artifacts.seal_is_intact(scores):
        return "scores.json was edited after the evaluation wrote it: its content hash does not match"
    found = problem(Scores, "scores.json", scores)
    if not found and scores["split"] != split:
        return f"scores.json is for the split {scores['split']!r}, expected {split!r}"
    return found


def edited_files(content: dict, folder: Path, names: tuple[str, ...]) -> list[str]:
    """Return those of the files that no longer have the hash that a record or an evaluation holds for them.

    A file that is missing or unreadable is not among them: whoever reads it reports that.
    """
    hashes, found = content.get("files") or {}, []
    for name in names:
        try:
            if name in hashes and artifacts.sha256_file(folder / name) != hashes[name]:
                found.append(name)
        except OSError:
            continue
    return found
