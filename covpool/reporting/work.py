"""Which runs did the same work, and what else differs between them.

Two runs did the same work if they had the same pictures (by hash), parameters, steps, batch (of all workers together)
and learning rates (as applied). Only then are their figures compared.
"""

import math
from collections.abc import Sequence

from covpool.reporting.runs import Run
from covpool.reporting.wording import plain, scaled_workers, scored_text, start_text, workers

#: Which kind the others are measured against, best first.
REFERENCE_KINDS = ("gpu", "cpu", "npu")

#: Parameters that change no weight and no loss, at most the time.
TIME_ONLY = ("train.nrof_preprocess_threads", "train.log_histograms")
#: Parameters that name the weights that a run started from. The hash of their content is compared instead.
START = ("train.pretrained_model", "train.pretrained_hash")
#: Parameter of one worker. The batch of all workers, `progress.batch_size`, is compared instead.
ONE_WORKERS_BATCH = ("train.batch_size",)
#: Parameters that make the learning rates. The rates that were applied are compared instead, if both records have them.
RATES = (
    "train.learning_rate",
    "train.learning_rate_decay_factor",
    "train.learning_rate_decay_epochs",
    "train.schedule",
    "train.scale_learning_rate",
)

#: Numbers that differ by less than this share are equal: some thousand times float64's rounding.
ROUNDING = 1e-12


def reference_run(runs: Sequence[Run]) -> Run | None:
    """Return the run that the others are measured against, or None if no run can be used."""
    usable = [run for run in runs if run.usable]
    return min(usable, key=lambda run: REFERENCE_KINDS.index(run.kind), default=None)


def number_works(runs: Sequence[Run], reference: Run | None) -> dict[str, int]:
    """Return `{name of the run: number of its work}`. Runs of the same work share a number; the reference's is 1."""
    numbers, first = {}, [reference] if reference else []
    for run in (run for run in runs if run.usable):
        if all(differences(run, other) for other in first):
            first.append(run)
        numbers[run.name] = 1 + next(place for place, other in enumerate(first) if not differences(run, other))
    return numbers


def differences(run: Run, reference: Run) -> list[str]:
    """Return why two runs did not do the same work, one sentence per reason; an empty list if they did."""
    found = []
    if run.value("data.hash") != reference.value("data.hash"):
        here, there = (str(item.value("data.hash"))[:12] for item in (run, reference))
        found.append(f"other data: hash {here} here, {there} at {reference.title}")
    for key, what in (
        ("epochs", "epochs"),
        ("epoch_size", "steps per epoch"),
        ("steps", "steps"),
        ("batch_size", "batch size"),
    ):
        here, there = (item.value(f"progress.{key}") for item in (run, reference))
        if here != there:
            found.append(f"{what}: {plain(here)} here, {plain(there)} at {reference.title}")
    if run.value("data.pretrained") != reference.value("data.pretrained"):
        here, there = (start_text(item.value("data.pretrained")) for item in (run, reference))
        found.append(f"starts from {here} here, from {there} at {reference.title}")
    compared_otherwise = TIME_ONLY + START + ONE_WORKERS_BATCH
    if all(item.value("progress.learning_rates") for item in (run, reference)):
        found += _other_rates(run, reference)
        compared_otherwise += RATES
    elif scaled_workers(run) != scaled_workers(reference):
        here, there = (scaled_workers(item) for item in (run, reference))
        found.append(f"learning rate: scaled for {here} workers here, for {there} at {reference.title}")
    for key, here, there in _other_parameters(run, reference):
        if key not in compared_otherwise:
            found.append(f"parameter {key}: {plain(here)} here, {plain(there)} at {reference.title}")
    return found


def remarks(run: Run, reference: Run) -> list[str]:
    """Return what differs between two runs of the same work besides the device, and may explain other figures."""
    at = f"at {reference.title}"
    found = []
    for path, what in (("tensorflow.version", "TensorFlow"), ("tensorflow.build", "TensorFlow build")):
        here, there = (plain(item.value(path)) for item in (run, reference))
        if here != there:
            found.append(f"{what} {here} here, {there} {at}")
    if workers(run) != workers(reference):
        here, there = (_workers_text(item) for item in (run, reference))
        found.append(f"{here} here, {there} {at}: each normalises by the statistics of its own batch")
    here, there = (item.value("progress.steps_per_loss") or 1 for item in (run, reference))
    if here != there:
        found.append(f"its loss was recorded {_every(here)}, {at} {_every(there)}")
    here, there = (item.value("energy.source") for item in (run, reference))
    if here and there and here != there:
        found.append(f"its energy is that of {here}, {at} that of {there}")
    if run.kind == reference.kind:
        # Runs on one kind of device are told apart by the device's settings.
        ours, theirs = (flatten(item.value("device")) for item in (run, reference))
        for key in sorted((ours.keys() | theirs.keys()) - {"count"}):
            here, there = (plain(item.get(key)) for item in (ours, theirs))
            if here != there:
                found.append(f"device {key} {here} here, {there} {at}")
    for key, here, there in _other_parameters(run, reference):
        if key in TIME_ONLY:
            found.append(f"parameter {key}: {plain(here)} here, {plain(there)} {at}")
    if run.value("code.hash") != reference.value("code.hash"):
        found.append(f"its code differs from that of {reference.title} (by the hashes of the code)")
    here, there = (_all_scored(item) for item in (run, reference))
    if here and there and here != there:
        found.append(f"scored on {here} here, on {there} {at}")
    return found


def flatten(content: dict, prefix: str = "") -> dict:
    """Return nested dictionaries as one, with keys joined by dots."""
    flat = {}
    for key, value in content.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _all_scored(run):
    return " and ".join(scored_text(split, item.scores["checkpoint"]) for split, item in run.evaluations.items())


def _other_parameters(run, reference):
    ours, theirs = (flatten(item.value("parameters") or {}) for item in (run, reference))
    return [
        (key, ours.get(key), theirs.get(key))
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]


def _other_rates(run, reference):
    """The first epoch with another learning rate, as a sentence in a list; an empty list if there is none."""
    ours, theirs = (dict(item.value("progress.learning_rates")) for item in (run, reference))
    here = there = None
    for epoch in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(epoch, here), theirs.get(epoch, there)
        if here is None or there is None or not math.isclose(here, there, rel_tol=ROUNDING):
            return [f"learning rate from epoch {epoch}: {plain(here)} here, {plain(there)} at {reference.title}"]
    return []


def _workers_text(run):
    number, batch = workers(run), run.value("parameters.train.batch_size")
    return f"{number} {'worker' if number == 1 else 'workers'} of batch {batch}"


def _every(steps):
    return "at every step" if steps == 1 else f"at one step in {steps}"
