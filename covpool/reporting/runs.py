"""What the runs left behind, read without trusting it: records, curves, step times and evaluations.

A run is named in `devices`. The name is a label and nothing else: what a run ran on is the `kind` in its record. A
record carries a hash of its content and of the tables beside it, and so does an evaluation. What was edited by hand is
therefore noticed, and its figures are not used.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from covpool.pipeline import artifacts
from covpool.reporting import run_tables, schema

READ, MISSING, REFUSED = "read", "missing", "refused"

#: Energy that was measured for less than this share of the training is not the energy of the training.
COVERED = 0.95

#: Order in which splits are reported: unseen people first, then the split that chose the checkpoint.
REPORTED_SPLITS = ("test", "val", "train")

#: Remarks on files of an earlier version, which hold no hashes.
UNHASHED_TABLES = "its record has no hashes of history.csv and times.csv, so edits of them can't be detected"
UNSEALED_EVALUATION = "its evaluation of {} has no hashes, so edits of it can't be detected"


@dataclass(frozen=True)
class Evaluation:
    """What `evaluation/<run>/<split>/` contains: `scores.json` as it is, and `predictions.csv` as a frame."""

    scores: dict
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Run:
    """One run named in `devices`.

    Attributes:
        name: Its label.
        status: `read`, `missing` (no record) or `refused` (the record can't be trusted).
        reason: Why it is missing or refused.
        record: The content of `run.json`; empty unless it was read, as are the following.
        history: `history.csv`, one row per epoch.
        times: `times.csv`, one row per step, with the columns `epoch` and `seconds`.
        evaluations: The evaluation of each split, in the order of REPORTED_SPLITS.
        notes: Remarks that a reader of its figures must know.
    """

    name: str
    status: str
    reason: str | None = None
    record: dict = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(artifacts.HISTORY_COLUMNS)))
    times: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["epoch", "seconds"], dtype=float))
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether its record was read and can be trusted."""
        return self.status == READ

    @property
    def kind(self) -> str | None:
        """The kind of device that it ran on, as recorded: cpu, gpu or npu."""
        return self.record.get("kind")

    @property
    def title(self) -> str:
        """Its name for people: the recorded kind, followed by the label if that says something else."""
        if not self.usable:
            return self.name
        kind = self.kind.upper()
        return kind if self.name.lower() == self.kind else f"{kind} ({self.name})"

    @property
    def label(self) -> str:
        """Its name for programs: the label, which never suggests another kind than the recorded one."""
        named = set(re.split(r"[^a-z]+", self.name.lower())) & set(schema.KINDS)
        return f"{self.name} ({self.kind})" if self.usable and named - {self.kind} else self.name

    def value(self, path: str) -> object:
        """Return the entry of the record at a dotted path, or None if there is none."""
        content = self.record
        for key in path.split("."):
            content = content.get(key) if isinstance(content, dict) else None
        return content

    @property
    def joules(self) -> float | None:
        """The energy of the whole training, or None if it was not measured (or only for a part)."""
        return None if _is_partial(self.record.get("energy", {})) else self.value("energy.joules")

    @property
    def joules_per_image(self) -> float | None:
        """The energy per training picture; it includes validation."""
        images = self.value("progress.steps") * self.value("progress.batch_size")
        return self.joules / images if self.joules is not None and images else None

    @property
    def training_seconds(self) -> float | None:
        """Duration of the training with validation, as recorded, or None."""
        return self.value("energy.seconds")


def read_run(root: Path | str, name: str) -> Run:
    """Read the run `name` below `root`. A run that is missing or can't be trusted is returned with the reason."""
    folder = Path(root) / artifacts.RUNS / name
    if not (folder / "run.json").exists():
        return Run(name, MISSING, f"{(artifacts.RUNS / name / 'run.json').as_posix()} does not exist")
    try:
        record = artifacts.read_json(folder / "run.json")
    except artifacts.ArtifactError as error:
        return Run(name, REFUSED, _reason(error, folder))
    problem = schema.record_problem(record, name)
    if problem:
        return Run(name, REFUSED, problem)
    edited = schema.edited_files(record, folder, artifacts.RUN_TABLES)
    if edited:
        return Run(name, REFUSED, f"{' and '.join(edited)} changed after the training: run.json holds another hash")
    found, notes = {"record": record}, _record_notes(record)
    for key, read in (("history", run_tables.read_history), ("times", run_tables.read_times)):
        try:
            found[key] = read(folder / f"{key}.csv")
        except artifacts.ArtifactError as error:
            notes.append(f"{key}.csv can't be used: {_reason(error, folder)}")
    if not _agrees(record, found.get("history")):
        return Run(name, REFUSED, "history.csv and run.json disagree about the loss of the last epoch: one was edited")
    found["evaluations"], evaluation_notes = read_evaluations(root, name)
    return Run(name, READ, notes=tuple(notes + evaluation_notes), **found)


def read_evaluations(root: Path | str, name: str) -> tuple[dict[str, Evaluation], list[str]]:
    """Read the evaluations of a run.

    Returns:
        The evaluation of each split that has one which can be trusted, and remarks on the others.
    """
    place = artifacts.EVALUATION / name
    splits = [split for split in REPORTED_SPLITS if (Path(root) / place / split).exists()]
    found, notes = {}, []
    if not splits:
        notes.append(f"not evaluated: {place.as_posix()} has no scores; `dvc repro evaluate@{name}` makes them")
    for split in splits:
        folder = Path(root) / place / split
        try:
            scores = artifacts.read_json(folder / "scores.json")
            problem = schema.scores_problem(scores, split)
            if not problem and schema.edited_files(scores, folder, ("predictions.csv",)):
                problem = "predictions.csv changed after the evaluation: scores.json holds another hash"
            if problem:
                notes.append(f"evaluation of {split} refused: {problem}")
                continue
            found[split] = Evaluation(scores, run_tables.read_predictions(folder / "predictions.csv", scores))
            if "content_hash" not in scores or "predictions.csv" not in (scores.get("files") or {}):
                notes.append(UNSEALED_EVALUATION.format(split))
        except artifacts.ArtifactError as error:
            notes.append(f"evaluation of {split} refused: {_reason(error, folder)}")
    return found, notes


def _record_notes(record):
    notes = []
    if not set(artifacts.RUN_TABLES) <= set(record.get("files") or ()):
        notes.append(UNHASHED_TABLES)
    if record["progress"].get("resumed"):
        notes.append("training was interrupted and resumed")
    if record["code"].get("modified"):
        notes.append("the code had changes that are in no revision")
    if _is_partial(record["energy"]):
        share, joules = record["energy"]["covered"], record["energy"]["joules"]
        notes.append(
            f"energy was measured for only {100 * share:.0f} % of the training ({joules / 1000:.1f} kJ); it is left out"
        )
    return notes


def _is_partial(energy):
    # Records of an earlier version hold no share: there the energy was measured completely or not at all.
    covered = energy.get("covered")
    return energy.get("joules") is not None and covered is not None and covered < COVERED


def _agrees(record, history):
    recorded = record["loss"].get("total")
    if recorded is None or history is None or history.empty or pd.isna(history["loss"].iloc[-1]):
        return True
    return schema.same_number(history["loss"].iloc[-1], recorded)


def _reason(error, folder):
    """An error as the end of a sentence that gets its own full stop."""
    return str(error).replace(f"{folder}/", "").rstrip(".")
