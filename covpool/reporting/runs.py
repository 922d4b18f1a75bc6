"""What the runs left behind, read without trusting it: records, curves, step times and evaluations.

A run is named in `devices`; the name is a label and nothing else. What it ran on is the `kind` in its record. A record
carries a hash of its content, so one that was edited by hand is told from one that the training wrote, and its figures
are not used.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from covpool import artifacts

KINDS = ("npu", "gpu", "cpu")
RECORD_FORMAT = 1
READ, MISSING, REFUSED = "read", "missing", "refused"

#: A record and its history are written from the same numbers; they differ by rounding at most.
SAME_NUMBER = 1e-6

_SECTIONS = (
    "device", "tensorflow", "host", "parameters", "data", "code", "progress", "loss", "accuracy", "speed", "memory",
    "energy",
)  # fmt: skip
_PROGRESS = ("epochs", "epoch_size", "steps", "batch_size")
_NUMBERS = ("loss", "accuracy", "speed", "memory", "energy")
_TEXTS = ("energy.source",)

#: Energy that was measured in less than this share of the training is not that of the training.
COVERED = 0.95


@dataclass(frozen=True)
class Evaluation:
    """What `evaluation/<name>/` says: `scores.json` as it is and the rows of `predictions.csv` (text)."""

    scores: dict
    predictions: list


@dataclass(frozen=True)
class Run:
    """One run named in `devices`.

    `status` is `read`, `missing` (no record) or `refused` (a record that can't be believed, with the `reason`); only a
    run that was read has a `record`, `history` (a dictionary of numbers an epoch) and `times` (arrays `epoch`
    and `seconds`, a value a step). `notes` are remarks that a reader of its figures must know.
    """

    name: str
    status: str
    reason: str | None = None
    record: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    times: dict = field(default_factory=dict)
    evaluation: Evaluation | None = None
    notes: tuple = ()

    @property
    def usable(self):
        return self.status == READ

    @property
    def kind(self):
        return self.record.get("kind")

    @property
    def title(self):
        """How people see the run: its kind, as recorded, with its label behind it where that says something else."""
        if not self.usable:
            return self.name
        kind = self.kind.upper()
        return kind if self.name.lower() == self.kind else f"{kind} ({self.name})"

    @property
    def label(self):
        """How tables for programs name the run: its label, which never passes for another kind than it ran on."""
        named = set(re.split(r"[^a-z]+", self.name.lower())) & set(KINDS)
        return f"{self.name} ({self.kind})" if self.usable and named - {self.kind} else self.name

    def value(self, path):
        """The entry of the record at a dotted path, or None where there is none."""
        found = self.record
        for key in path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def score(self, key):
        """An entry of the evaluation's scores, or None."""
        return self.evaluation.scores.get(key) if self.evaluation else None

    @property
    def joules(self):
        """The energy of the whole training; None where it, or too much of it, was not measured."""
        return None if _is_partial(self.record.get("energy", {})) else self.value("energy.joules")

    @property
    def joules_per_image(self):
        """The energy of a training picture, validation and all included."""
        images = self.value("progress.steps") * self.value("progress.batch_size")
        return self.joules / images if self.joules is not None and images else None


def read_run(root, name):
    """Read the run `name` below `root`; a run that is missing or can't be believed comes back saying so."""
    folder = Path(root) / artifacts.RUNS / name
    if not (folder / "run.json").exists():
        return Run(name, MISSING, f"{(artifacts.RUNS / name / 'run.json').as_posix()} does not exist")
    try:
        record = artifacts.read_json(folder / "run.json")
    except artifacts.ArtifactError as error:
        return Run(name, REFUSED, str(error).replace(f"{folder}/", ""))
    problem = _record_problem(record, name)
    if problem:
        return Run(name, REFUSED, problem)
    history, history_note = _read_part(_read_history, folder / "history.csv")
    if history and not _agrees(record, history):
        return Run(name, REFUSED, "history.csv and run.json disagree about the loss of the last epoch: one was edited")
    times, times_note = _read_part(_read_times, folder / "times.csv")
    evaluation, evaluation_note = read_evaluation(root, name)
    notes = [note for note in (history_note, times_note, evaluation_note) if note]
    return Run(
        name,
        READ,
        record=record,
        history=history or [],
        times=times or {},
        evaluation=evaluation,
        notes=tuple(_record_notes(record) + notes),
    )


def read_evaluation(root, name):
    """`(Evaluation, None)`, or `(None, reason)` where there is none or its figures contradict each other."""
    folder = Path(root) / artifacts.EVALUATION / name
    if not (folder / "scores.json").exists():
        return None, f"not evaluated: {(artifacts.EVALUATION / name / 'scores.json').as_posix()} does not exist"
    try:
        scores = artifacts.read_json(folder / "scores.json")
        problem = _scores_problem(scores)
        if problem:
            return None, f"evaluation refused: {problem}"
        columns = artifacts.predictions_columns(scores["classes"])
        return Evaluation(scores, artifacts.read_csv(folder / "predictions.csv", columns)), None
    except artifacts.ArtifactError as error:
        return None, "evaluation refused: " + str(error).replace(f"{folder}/", "")


def _record_problem(record, name):
    if not isinstance(record, dict) or "content_hash" not in record:
        return "run.json has no content hash: it was not written by the training"
    if not artifacts.seal_is_intact(record):
        return "run.json was edited after the training wrote it: its content hash does not match"
    if record.get("format") != RECORD_FORMAT:
        return f"run.json has format {record.get('format')!r}; this report reads format {RECORD_FORMAT}"
    if record.get("name") != name:
        return f"run.json is the record of the run {record.get('name')!r}, not of {name!r}"
    if record.get("kind") not in KINDS:
        return f"run.json names the kind {record.get('kind')!r}; known are {', '.join(KINDS)}"
    lacking = [key for key in _SECTIONS if not isinstance(record.get(key), dict)]
    lacking += [f"progress.{key}" for key in _PROGRESS if not _is_number((record.get("progress") or {}).get(key))]
    if lacking:
        return f"run.json lacks {', '.join(lacking)}"
    wrong = [
        f"{section}.{key}"
        for section in _NUMBERS
        for key, value in record[section].items()
        if value is not None and not _is_number(value) and f"{section}.{key}" not in _TEXTS
    ]
    return f"run.json has no number at {', '.join(wrong)}" if wrong else None


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _record_notes(record):
    notes = []
    if record["progress"].get("resumed"):
        notes.append("training was interrupted and resumed")
    if record["code"].get("modified"):
        notes.append("the code had changes that are in no revision")
    if _is_partial(record["energy"]):
        share, joules = record["energy"]["covered"], record["energy"]["joules"]
        notes.append(
            f"energy was measured in {100 * share:.0f} % of the training, {joules / 1000:.1f} kJ, and is left out"
        )
    return notes


def _is_partial(energy):
    # Records of before there was a share have all or nothing.
    return energy.get("joules") is not None and energy.get("covered", 1) < COVERED


def _scores_problem(scores):
    """The confusion table is the ground for every score: what it does not bear out was edited or mixed up."""
    if not isinstance(scores, dict) or not isinstance(scores.get("classes"), list):
        return "scores.json has no class list"
    size = len(scores["classes"])
    confusion = np.asarray(scores.get("confusion", []), dtype=float)
    if confusion.shape != (size, size):
        return f"the confusion table of scores.json is {confusion.shape}, wanted {(size, size)}"
    total = confusion.sum()
    if not _same(total, scores.get("images")):
        return f"scores.json counts {scores.get('images')} images, its confusion table {total:.0f}"
    accuracy = np.trace(confusion) / total if total else None
    if total and not _same(accuracy, scores.get("accuracy")):
        return f"scores.json says accuracy {scores.get('accuracy')}, its confusion table {accuracy:.6g}"
    return None


def _same(value, other):
    return _is_number(other) and math.isclose(value, other, rel_tol=SAME_NUMBER, abs_tol=SAME_NUMBER)


def _agrees(record, history):
    said, last = record["loss"].get("total"), history[-1]["loss"]
    return said is None or last is None or _same(last, said)


def _read_part(read, path):
    try:
        return read(path), None
    except (artifacts.ArtifactError, ValueError) as error:
        return None, f"{path.name} can't be used: " + str(error).replace(f"{path.parent}/", "")


def _read_history(path):
    rows = artifacts.read_csv(path, artifacts.HISTORY_COLUMNS)
    return [{column: _number(row[column]) for column in artifacts.HISTORY_COLUMNS} for row in rows]


def _read_times(path):
    """`epoch` and `seconds` a step, without the steps that also prepared a graph.

    A row of a device loop holds the mean of its steps, and counts once for each of them.
    """
    rows = [row for row in artifacts.read_csv(path, artifacts.TIMES_COLUMNS) if row["warm_up"] != "true"]
    repeats = [int(row["steps"]) for row in rows]
    return {column: np.repeat([float(row[column]) for row in rows], repeats) for column in ("epoch", "seconds")}


def _number(text):
    return float(text) if text else None
