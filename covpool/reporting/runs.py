"""What the runs left behind, read without trusting it: records, curves, step times and evaluations.

A run is named in `devices`; the name is a label and nothing else. What it ran on is the `kind` in its record. A record
carries a hash of its content and those of the tables beside it, as does an evaluation, so what was edited by hand is
told from what was written by a stage, and its figures are not used.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from covpool.pipeline import artifacts
from covpool.reporting import checks
from covpool.reporting.checks import KINDS

READ, MISSING, REFUSED = "read", "missing", "refused"

#: Energy that was measured in less than this share of the training is not that of the training.
COVERED = 0.95

#: What is said of files of before there were hashes of them.
UNHASHED_TABLES = "its record has no hashes of history.csv and times.csv, so an edit of these can't be told"
UNSEALED_EVALUATION = "its evaluation has no hash of its scores and predictions, so an edit of these can't be told"


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
    evaluations: dict = field(default_factory=dict)
    notes: tuple = ()

    @property
    def usable(self):
        return self.status == READ

    @property
    def kind(self):
        return self.record.get("kind")

    @property
    def evaluation(self):
        """The evaluation of the split that says most: test, which training never saw, else val, else train; or None."""
        return next((self.evaluations[split] for split in ("test", "val", "train") if split in self.evaluations), None)

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
        return checks.value_at(self.record, path)

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
        return Run(name, REFUSED, _reason(error, folder))
    problem = checks.record_problem(record, name)
    if problem:
        return Run(name, REFUSED, problem)
    edited = checks.edited_files(record, folder, artifacts.RUN_TABLES)
    if edited:
        return Run(name, REFUSED, f"{' and '.join(edited)} changed after the training: run.json holds another hash")
    history, history_note = _read_part(checks.read_history, folder / "history.csv")
    if history and not _agrees(record, history):
        return Run(name, REFUSED, "history.csv and run.json disagree about the loss of the last epoch: one was edited")
    times, times_note = _read_part(checks.read_times, folder / "times.csv")
    evaluations, evaluation_notes = read_evaluations(root, name)
    notes = [note for note in (history_note, times_note, *evaluation_notes) if note]
    return Run(
        name,
        READ,
        record=record,
        history=history or [],
        times=times or {},
        evaluations=evaluations,
        notes=tuple(_record_notes(record) + notes),
    )


def read_evaluations(root, name):
    """Return `({split: Evaluation}, remarks)` of a run; a remark says why a split is left out."""
    folder = Path(root) / artifacts.EVALUATION / name
    found = {split: read_evaluation(folder / split) for split in artifacts.SPLITS if (folder / split).is_dir()}
    if not found:
        return {}, [f"not evaluated: {(artifacts.EVALUATION / name).as_posix()} has no split"]
    evaluations = {split: evaluation for split, (evaluation, _) in found.items() if evaluation is not None}
    return evaluations, list(dict.fromkeys(remark for _, remark in found.values() if remark))


def read_evaluation(folder):
    """`(Evaluation, remark or None)` of one split's folder, or `(None, reason)` if it can't be believed."""
    if not (folder / "scores.json").exists():
        return None, f"evaluation refused: {folder.name}/scores.json does not exist"
    try:
        scores = artifacts.read_json(folder / "scores.json")
        problem = checks.scores_problem(scores)
        if problem:
            return None, f"evaluation refused: {problem}"
        if checks.edited_files(scores, folder, ["predictions.csv"]):
            return None, "evaluation refused: predictions.csv changed after it: scores.json holds another hash"
        unsealed = "content_hash" not in scores or "predictions.csv" not in (scores.get("files") or {})
        evaluation = Evaluation(scores, checks.read_predictions(folder / "predictions.csv", scores))
        return evaluation, UNSEALED_EVALUATION if unsealed else None
    except artifacts.ArtifactError as error:
        return None, "evaluation refused: " + _reason(error, folder)


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
            f"energy was measured in {100 * share:.0f} % of the training, {joules / 1000:.1f} kJ, and is left out"
        )
    return notes


def _is_partial(energy):
    # Records of before there was a share have all or nothing.
    covered = energy.get("covered")
    return energy.get("joules") is not None and covered is not None and covered < COVERED


def _agrees(record, history):
    said, last = record["loss"].get("total"), history[-1]["loss"]
    return said is None or last is None or checks.same(last, said)


def _read_part(read, path):
    try:
        return read(path), None
    except artifacts.ArtifactError as error:
        return None, f"{path.name} can't be used: " + _reason(error, path.parent)


def _reason(error, folder):
    """An error as what follows a colon in a sentence that gets its own full stop."""
    return str(error).replace(f"{folder}/", "").rstrip(".")
