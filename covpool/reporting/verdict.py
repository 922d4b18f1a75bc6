"""A run's figures against the reference's: ratios, and the verdict on the loss with what it is worth."""

import math

from covpool.reporting import accuracy
from covpool.reporting.runs import Run
from covpool.reporting.wording import count, percent, short_percent, signed_percent
from covpool.reporting.work import ROUNDING

#: With fewer steps, or in a single epoch, two runs have equal losses because neither has learned much.
FEWEST_STEPS = 100


def ratios(run: Run, reference: Run) -> dict[str, float | None]:
    """Return a run's figures over the reference's; None if either has none."""
    pairs = {
        key: (run.value(path), reference.value(path))
        for key, path in (
            ("loss", "loss.total"),
            ("cross_entropy", "loss.cross_entropy"),
            ("seconds_per_step", "speed.seconds_per_step"),
            ("images_per_second", "speed.images_per_second"),
            ("peak_bytes", "memory.peak_bytes"),
            ("device_peak_bytes", "memory.device_peak_bytes"),
        )
    }
    return {
        "loss_difference": relative_difference(*pairs["loss"]),
        "cross_entropy_difference": relative_difference(*pairs["cross_entropy"]),
        "step_ratio": ratio(*pairs["seconds_per_step"]),
        "images_per_second_ratio": ratio(*pairs["images_per_second"]),
        "peak_memory_ratio": ratio(*pairs["peak_bytes"]),
        "device_memory_ratio": ratio(*pairs["device_peak_bytes"]),
        "energy_ratio": ratio(run.joules, reference.joules),
    }


def ratio(value: float | None, reference: float | None) -> float | None:
    """Return `value / reference`, or None if one is missing or the reference is 0."""
    return None if value is None or not reference else _finite(value / reference)


def relative_difference(value: float | None, reference: float | None) -> float | None:
    """Return `(value - reference) / |reference|`, or None if one is missing or the reference is 0."""
    return None if value is None or not reference else _finite((value - reference) / abs(reference))


def _finite(number):
    return number if math.isfinite(number) else None


def within(value: float, reference: float, tolerance: float) -> bool:
    """Return whether `|value - reference| <= tolerance * |reference|`, apart from rounding."""
    rounding = ROUNDING * max(abs(value), abs(reference))
    return abs(value - reference) <= tolerance * abs(reference) + rounding


def loss_verdict(run: Run, reference: Run, tolerance: float) -> dict:
    """Judge whether a run's loss is near the reference's.

    Args:
        run: The run to judge. It did the same work as the reference.
        reference: The run that it is measured against.
        tolerance: Share of the reference's loss by which the run's may differ.

    Returns:
        `result` (pass, fail or undecided), `text` (the sentence that says so), `agreement` (share of equal predictions
        per split) and `warnings` (why an equal loss says little).
    """
    loss, expected = run.value("loss.total"), reference.value("loss.total")
    claim = f"{run.title} loss is within {percent(tolerance)} of {reference.title}"
    difference = relative_difference(loss, expected)
    common = [split for split in run.evaluations if split in reference.evaluations]
    equal = {split: accuracy.agreement(run.evaluations[split], reference.evaluations[split]) for split in common}
    if difference is None:
        who = run.title if loss is None else reference.title
        state = "no finite loss" if loss is None or expected is None else "a loss of 0"
        result, text = "undecided", f"{claim}: undecided, {who} ended with {state}"
    else:
        result = "pass" if within(loss, expected, tolerance) else "fail"
        text = f"{claim}: {result} ({loss:.4f} against {expected:.4f}, {signed_percent(difference)})"
    text += "".join(f". {_accuracy_text(run, reference, split, equal[split])}" for split in common)
    return {"result": result, "text": text, "agreement": equal, "warnings": _warnings(run, reference)}


def _accuracy_text(run, reference, split, equal):
    ours, theirs = (item.evaluations[split].scores["accuracy"] for item in (run, reference))
    text = f"Accuracy on {split}: {100 * ours:.1f} % against {100 * theirs:.1f} %"
    return text if equal is None else f"{text}, with equal predictions for {short_percent(equal)} of the pictures"


def _warnings(run, reference):
    """Why the losses of two runs may be near each other although neither shows that it trains well."""
    found = []
    steps, epochs = run.value("progress.steps"), run.value("progress.epochs")
    if steps < FEWEST_STEPS or epochs == 1:
        found.append(
            f"a run of {count(epochs, 'epoch')} and {count(steps, 'step')} is too short to compare losses: "
            "train longer before you trust the verdict"
        )
    for item in (run, reference):
        for split, evaluation in item.evaluations.items():
            if accuracy.is_near_chance(evaluation.scores):
                scores = evaluation.scores
                found.append(
                    f"{item.title} has learned little: its accuracy on {split}, {100 * scores['accuracy']:.1f} %, is "
                    f"not clearly above chance ({100 * accuracy.chance_level(scores):.1f} %)"
                )
                break
        else:
            if not item.evaluations:
                found.append(f"{item.title} was not evaluated, so nothing shows that it has learned")
    return found
