"""What the comparison says in words: who did what, how the runs that are compared fared, and why others are not."""

from covpool.reporting.comparison import percent
from covpool.reporting.tables import reference_title, work_groups, work_text

#: As many reasons are spelled out; comparison.json has them all.
SHOWN_REASONS = 6


def remarks_on_runs(comparison):
    """What a reader of the tables needs to know of each run, a sentence each."""
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
            lines.append(f"Run {entry['name']} is {entry['status']}, its figures are left out: {entry['reason']}.")
    return lines


def verdicts(comparison):
    """`(result, sentence)` a run that is measured against the reference, or a single one where there is none.

    `result` is that of the verdict on the loss (`pass`, `fail`, `undecided`), or `none` for a run that did other work
    than the reference, with the reasons why no ratio and no verdict is given.
    """
    found = []
    for entry in comparison["runs"]:
        if entry.get("verdict"):
            found.append((entry["verdict"]["result"], entry["verdict"]["text"]))
        elif entry.get("differences"):
            reasons = _listing(entry["differences"])
            found.append(("none", f"{entry['title']} is not compared with {reference_title(comparison)}: {reasons}"))
    if found:
        return found
    tolerance = percent(comparison["loss_tolerance"])
    return [("none", f"No verdict on the loss: it takes two runs that did the same work (tolerance {tolerance}).")]


def _listing(reasons):
    shown = "; ".join(reasons[:SHOWN_REASONS])
    return f"{shown}; and {len(reasons) - SHOWN_REASONS} more" if len(reasons) > SHOWN_REASONS else shown


def published_statement(comparison):
    """Where the published row comes from and how the runs' rows stand to it: a sentence each."""
    npu, gpu = comparison["published"]
    gpu_name = gpu["device"].replace("(not named)", "that is not named")
    lines = [
        f"The published row was measured on {npu['data']}, {npu['epochs']} epochs of {npu['epoch_size']} steps, batch "
        f"{npu['batch_size']}, on {npu['device']} and on a {gpu_name}. Source: {npu['source']}."
    ]
    if any(entry.get("differs_from_published") for entry in comparison["runs"]):
        lines.append(
            "The runs here were made under other conditions, as listed: they are shown beside it for orientation, not "
            "as a comparison."
        )
    return lines
