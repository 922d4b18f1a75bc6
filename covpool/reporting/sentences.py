"""What the comparison says in words: who did what, how the compared runs fared, and why others are not compared."""

from collections.abc import Iterable, Sequence

from covpool.reporting.tables import reference_title, work_groups, work_text
from covpool.reporting.wording import percent

#: At most this many reasons are spelled out; comparison.json has them all.
SHOWN_REASONS = 6

#: What accuracies on drawn faces are not.
DRAWN_FACES = "The pictures are drawn faces. They test the pipeline; an accuracy on them says nothing about photos."


def remarks_on_runs(comparison: dict) -> list[str]:
    """Return what a reader of the tables must know of each run, one sentence each."""
    lines = []
    groups = work_groups(comparison)
    for number, group in enumerate(groups, 1):
        mark = f"Row {number}: " if len(groups) > 1 else ""
        runs = ", ".join(f"{entry['title']} on {entry['device']}" for entry in group)
        lines.append(f"{mark}{work_text(group[0]['settings'])}: {runs}.")
    for entry in comparison["runs"]:
        if entry["status"] == "read":
            if entry["arithmetic"]:
                lines.append(f"{entry['title']}: computed with {entry['arithmetic']}.")
            lines += [f"{entry['title']}: {text}." for text in entry["remarks"] + entry["notes"]]
        else:
            lines.append(f"Run {entry['name']} is {entry['status']} and has no figures here: {entry['reason']}.")
    return lines


def verdicts(comparison: dict) -> list[tuple[str, str]]:
    """Return `(result, sentence)` for each run that is measured against the reference.

    `result` is that of the verdict on the loss (`pass`, `fail`, `undecided`). It is `warn` for a pass that says little,
    and for the warnings that say why; and `none` for a run that did other work than the reference, with the reasons.
    """
    found, warnings = [], []
    for entry in comparison["runs"]:
        judged = entry.get("verdict")
        if judged:
            weak = judged["result"] == "pass" and judged["warnings"]
            found.append(("warn" if weak else judged["result"], f"{judged['text']}."))
            warnings += judged["warnings"]
        elif entry.get("differences"):
            reasons = _listing(entry["differences"])
            found.append(("none", f"{entry['title']} is not compared with {reference_title(comparison)}: {reasons}."))
    if found:
        return found + [("warn", f"Warning: {text}.") for text in dict.fromkeys(warnings)]
    tolerance = percent(comparison["loss_tolerance"])
    return [("none", f"No verdict on the loss: it needs two runs that did the same work (tolerance {tolerance}).")]


def caveats(comparison: dict) -> list[str]:
    """Return what limits the meaning of the accuracies, one sentence each."""
    runs = [entry for entry in comparison["runs"] if entry["status"] == "read"]
    found = [DRAWN_FACES] if any(entry["settings"]["data"] == "rendered" for entry in runs) else []
    judged = {entry["name"] for entry in runs if entry["verdict"]} | {comparison["reference"]}
    for entry in runs:
        weak = [
            f"{100 * scores['accuracy']:.1f} % on {split}"
            for split, scores in entry["evaluations"].items()
            if scores["interval"][0] <= scores["chance"]
        ]
        # Of runs that have a verdict its warnings say so.
        if weak and not (entry["name"] in judged and any(other["verdict"] for other in runs)):
            found.append(f"{entry['title']} has learned little: its accuracy is near chance ({_all(weak)}).")
        if set(entry["evaluations"]) == {"val"} and entry["evaluations"]["val"]["checkpoint"] == "best":
            found.append(
                f"{entry['title']}: there is no accuracy on a test split. The best checkpoint was chosen on val, so "
                "the accuracy on val is somewhat too high."
            )
    return found


def _all(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _listing(reasons: Sequence[str]) -> str:
    text = "; ".join(reasons[:SHOWN_REASONS])
    return f"{text}; and {len(reasons) - SHOWN_REASONS} more" if len(reasons) > SHOWN_REASONS else text


def published_statement(comparison: dict) -> list[str]:
    """Return where the published figures come from and how the runs relate to them, one sentence each."""
    npu, gpu = comparison["published"]
    gpu_name = gpu["device"].replace("(not named)", "whose model is not named")
    lines = [
        f"The published figures were measured on {npu['data']}, {npu['epochs']} epochs of {npu['epoch_size']} steps, "
        f"batch {npu['batch_size']}, on {npu['device']} and on a {gpu_name}. Source: {npu['source']}."
    ]
    if any(entry.get("differs_from_published") for entry in comparison["runs"]):
        lines.append(
            "The runs here were made under other conditions, listed below. The published figures are shown for "
            "orientation; they are not compared with the runs."
        )
    return lines
