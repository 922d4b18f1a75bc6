"""Which runs may be compared, and what the comparison says.

Two runs are comparable when they did the same work: the same pictures (by hash), parameters, steps and batch. Then
they are measured against the reference: the first GPU among the runs, as in the Ascend port's tables, or a CPU where
there is no GPU, or an NPU. A run that did other work is listed with the reason, and no ratio or verdict is given.
Published figures are never compared with a run: nothing shows that they come from the same work.
"""

import math

from covpool.reporting.published import published_training

#: Which kind the others are measured against, best first.
REFERENCE_KINDS = ("gpu", "cpu", "npu")

#: Weights of the loss's terms where the original's options are left alone (weight_decay, center_loss_factor). The
#: published loss is the sum of all three terms.
ORIGINAL_LOSS_TERMS = {"weight_decay": 5e-2, "center_loss_factor": 1e-2}

BYTES_PER_GIB = 2**30

#: Numbers that differ by less than this share are the same: some thousand times float64's rounding.
ROUNDING = 1e-12

#: Figures of a run in the comparison: key -> path in its record.
RECORDED = {
    "loss": "loss.total",
    "cross_entropy": "loss.cross_entropy",
    "l2_loss": "loss.l2",
    "center_loss": "loss.center",
    "train_accuracy": "accuracy.train",
    "val_accuracy": "accuracy.val",
    "best_val_accuracy": "accuracy.best_val",
    "best_epoch": "accuracy.best_epoch",
    "seconds_per_step": "speed.seconds_per_step",
    "median_seconds": "speed.median",
    "p90_seconds": "speed.p90",
    "first_step_seconds": "speed.first_step",
    "start_up_seconds": "speed.start_up",
    "waiting_share": "speed.waiting_share",
    "images_per_second": "speed.images_per_second",
    "peak_bytes": "memory.peak_bytes",
    "joules": "energy.joules",
}
#: The same from its evaluation: key -> key in its scores.
EVALUATED = {
    "accuracy": "accuracy",
    "mean_class_accuracy": "mean_class_accuracy",
    "macro_f1": "macro_f1",
    "evaluated_cross_entropy": "cross_entropy",
}


def compare(runs, loss_tolerance):
    """Compare runs: the content of `comparison.json`.

    `runs` are `Run`s in the order of `devices`; `loss_tolerance` is the share of the reference's loss by which another
    run's may differ. Returns a dictionary: `reference` (name of the run that the others are measured against, or
    None), `runs` (an entry each: status, settings, figures, comparability, ratios, verdict) and `published`.
    """
    reference = reference_run(runs)
    works = number_works(runs, reference)
    return {
        "format": 1,
        "loss_tolerance": loss_tolerance,
        "reference": reference.name if reference else None,
        "runs": [_entry(run, works.get(run.name), reference, loss_tolerance) for run in runs],
        "published": _published(),
    }


def reference_run(runs):
    """The run that the others are measured against, or None where no run can be used."""
    usable = [run for run in runs if run.usable]
    return min(usable, key=lambda run: REFERENCE_KINDS.index(run.kind), default=None)


def number_works(runs, reference):
    """`{name: number}`: runs that did the same work share a number, the reference's is 1."""
    numbers, first = {}, [reference] if reference else []
    for run in (run for run in runs if run.usable):
        if all(differences(run, other) for other in first):
            first.append(run)
        numbers[run.name] = 1 + next(place for place, other in enumerate(first) if not differences(run, other))
    return numbers


def _entry(run, work, reference, tolerance):
    entry = {"name": run.name, "label": run.label, "title": run.title, "status": run.status, "reason": run.reason}
    if not run.usable:
        return entry
    entry.update(
        kind=run.kind,
        device=device_text(run),
        work=work,
        settings=settings(run),
        figures={key: run.value(path) for key, path in RECORDED.items()}
        | {key: run.score(name) for key, name in EVALUATED.items()},
        evaluation={key: run.score(key) for key in ("split", "checkpoint", "epoch", "images")},
        differs_from_published=differs_from_published(run),
        notes=list(run.notes),
        comparable=None,
        differences=[],
        remarks=[],
        against_reference=None,
        verdict=None,
    )
    if run is not reference:
        entry["differences"] = differences(run, reference)
        entry["comparable"] = not entry["differences"]
        entry["remarks"] = remarks(run, reference)
    if entry["comparable"]:
        entry["against_reference"] = ratios(run, reference)
        entry["verdict"] = loss_verdict(run, reference, tolerance)
    return entry


def settings(run):
    """What a reader needs to know of a run's work: model, data, length and batch."""
    return {
        "model": run.value("parameters.network.model_def"),
        "data": run.value("data.kind"),
        "data_hash": run.value("data.hash"),
        "images": run.value("data.images"),
        **{key: run.value(f"progress.{key}") for key in ("epochs", "epoch_size", "steps", "batch_size")},
    }


def differences(run, reference):
    """Why two runs did not do the same work: a sentence a reason, none where they are comparable."""
    found = []
    if run.value("data.hash") != reference.value("data.hash"):
        here, there = (str(item.value("data.hash"))[:12] for item in (run, reference))
        found.append(f"other data: hash {here} here, {there} at {reference.title}")
    for key, what in (
        ("epochs", "epochs"), ("epoch_size", "steps an epoch"), ("steps", "steps"), ("batch_size", "batch size"),
    ):  # fmt: skip
        here, there = (item.value(f"progress.{key}") for item in (run, reference))
        if here != there:
            found.append(f"{what}: {_plain(here)} here, {_plain(there)} at {reference.title}")
    ours, theirs = (flatten(item.value("parameters") or {}) for item in (run, reference))
    for key in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(key), theirs.get(key)
        if here != there:
            found.append(f"parameter {key}: {_plain(here)} here, {_plain(there)} at {reference.title}")
    return found


def remarks(run, reference):
    """What differs between comparable runs beside the device, and may explain a difference in their figures."""
    found = []
    for path, what in (("tensorflow.version", "TensorFlow"), ("tensorflow.build", "TensorFlow build")):
        here, there = (_plain(item.value(path)) for item in (run, reference))
        if here != there:
            found.append(f"{what} {here} here, {there} at {reference.title}")
    if run.value("code.hash") != reference.value("code.hash"):
        found.append(f"its code is not that of {reference.title} (the hashes of the code differ)")
    return found


def flatten(content, prefix=""):
    """Nested dictionaries as one, its keys joined by dots."""
    flat = {}
    for key, value in content.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def ratios(run, reference):
    """A run's figures over the reference's; None where either has none."""
    pairs = {
        key: (run.value(RECORDED[key]), reference.value(RECORDED[key]))
        for key in ("loss", "cross_entropy", "seconds_per_step", "images_per_second", "peak_bytes", "joules")
    }
    return {
        "loss_difference": relative_difference(*pairs["loss"]),
        "cross_entropy_difference": relative_difference(*pairs["cross_entropy"]),
        "step_ratio": ratio(*pairs["seconds_per_step"]),
        "images_per_second_ratio": ratio(*pairs["images_per_second"]),
        "peak_memory_ratio": ratio(*pairs["peak_bytes"]),
        "energy_ratio": ratio(*pairs["joules"]),
    }


def ratio(value, reference):
    """`value / reference`, or None where one is missing or the reference is 0."""
    return None if value is None or not reference else _finite(value / reference)


def relative_difference(value, reference):
    """`(value - reference) / |reference|`, or None where one is missing or the reference is 0."""
    return None if value is None or not reference else _finite((value - reference) / abs(reference))


def _finite(number):
    return number if math.isfinite(number) else None


def within(value, reference, tolerance):
    """Whether `value` lies within `tolerance * |reference|` of `reference`, on either side, the ends included."""
    rounding = ROUNDING * max(abs(value), abs(reference))
    return abs(value - reference) <= tolerance * abs(reference) + rounding


def loss_verdict(run, reference, tolerance):
    """`pass`, `fail` or `undecided` on whether a run's loss is near the reference's, with the sentence that says so."""
    loss, wanted = run.value("loss.total"), reference.value("loss.total")
    claim = f"{run.title} loss is within {percent(tolerance)} of {reference.title}"
    difference = relative_difference(loss, wanted)
    if difference is None:
        who = run.title if loss is None else reference.title
        state = "no finite loss" if loss is None or wanted is None else "a loss of 0"
        return {"result": "undecided", "text": f"{claim}: undecided, {who} ended with {state}"}
    result = "pass" if within(loss, wanted, tolerance) else "fail"
    figures = f"{loss:.4f} against {wanted:.4f}, {signed_percent(difference)}"
    return {"result": result, "text": f"{claim}: {result} ({figures})"}


def percent(share):
    return f"{100 * share:.4g} %"


def signed_percent(share):
    return f"{100 * share:+.2f} %".replace("-", "\N{MINUS SIGN}")


def differs_from_published(run):
    """Under which conditions a run's figures and the Ascend port's published ones were measured differently.

    Returns a list of `{"what", "here", "published"}`.
    """
    published = published_training("gpu")["loss"]
    devices = [figure["loss"].device for figure in map(published_training, ("npu", "gpu"))]
    found = []
    kind = run.value("data.kind")
    if "sfew" in str(kind).lower():
        found.append(("data", f"{kind}; nothing shows that these are the same pictures", published.data))
    else:
        found.append(("data", DATA_NAMES.get(kind, str(kind)), published.data))
    for key, what in (("batch_size", "batch size"), ("epochs", "epochs"), ("epoch_size", "steps an epoch")):
        if run.value(f"progress.{key}") != getattr(published, key):
            found.append((what, _plain(run.value(f"progress.{key}")), str(getattr(published, key))))
    for key, original in ORIGINAL_LOSS_TERMS.items():
        here = run.value(f"parameters.train.{key}")
        if here != original:
            found.append((key.replace("_", " "), _plain(here), f"{_plain(original)} (the original's default)"))
    if not (run.kind == "npu" and "910" in str(run.value("device.name"))):
        found.append(("device", device_text(run), ", ".join(devices)))
    return [dict(zip(("what", "here", "published"), item, strict=True)) for item in found]


#: What `dataset.kind` means, in words.
DATA_NAMES = {"rendered": "drawn faces", "folder": "a folder of pictures", "sfew_100": "SFEW_100"}


def device_text(run):
    """A run's device in words: how many, and what it calls itself."""
    count, name = run.value("device.count"), run.value("device.name")
    many = f"{count} \N{MULTIPLICATION SIGN} " if isinstance(count, int) and count > 1 else ""
    return f"{many}{name}" if name else f"{many}{run.kind.upper()} (it does not tell its name)"


def _plain(value):
    return f"{value:g}" if isinstance(value, float) else "nothing" if value is None else str(value)


def _published():
    return [
        {
            "kind": kind,
            "device": figures["loss"].device,
            "loss": figures["loss"].value,
            "seconds_per_step": figures["seconds_per_step"].value,
            # Not published as such: the batch over its time.
            "images_per_second": figures["loss"].batch_size / figures["seconds_per_step"].value,
            **{key: getattr(figures["loss"], key) for key in ("model", "data", "epochs", "epoch_size", "batch_size")},
            "source": figures["loss"].source,
        }
        for kind, figures in ((kind, published_training(kind)) for kind in ("npu", "gpu"))
    ]
