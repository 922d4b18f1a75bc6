"""Which runs may be compared, and what the comparison says.

Two runs are comparable when they did the same work: the same pictures (by hash), parameters, steps, batch (of all
workers together) and learning rates (as applied). Then they are measured against the reference: the first GPU among the
runs, as in the Ascend port's tables, or a CPU where there is no GPU, or an NPU. A run that did other work is listed
with the reason, and no ratio or verdict is given.
Published figures are never compared with a run: nothing shows that they come from the same work.
"""

import math

from covpool.config import NAMED_SCHEDULES
from covpool.reporting.published import published_training

#: Which kind the others are measured against, best first.
REFERENCE_KINDS = ("gpu", "cpu", "npu")

#: What the Ascend port trains with where its options are left alone: in words, path among the parameters, value. Those
#: that it takes without effect (dropout, augmentation) stand as what they come to.
ORIGINAL_SETTINGS = (
    ("network", "network.model_def", "covpoolnet2"),
    ("pooling", "network.pooling", "covariance"),
    ("vectorisation", "network.vectorise", "full"),
    ("embedding size", "network.embedding_size", 128),
    ("batch norm decay", "network.batch_norm_decay", 0.995),
    ("matrix logarithm", "spd.method", "eigh"),
    ("image size", "normalise.size", 100),
    ("input normalisation", "network.normalisation", "none"),
    ("optimizer", "train.optimizer", "ADAM"),
    ("share kept by dropout", "train.keep_probability", 1.0),
    ("weight decay", "train.weight_decay", 5e-2),
    ("center loss factor", "train.center_loss_factor", 1e-2),
)
ORIGINAL_ADAM_EPSILON = 0.1

#: All conditions under which a run may differ from the published one, in the order in which they are listed.
PUBLISHED_CONDITIONS = (
    "data",
    "batch size",
    "epochs",
    "steps an epoch",
    "device",
    *(name for name, _, _ in ORIGINAL_SETTINGS),
    "ADAM's epsilon",
    "learning rate",
    "augmentation",
    "start",
)

#: Parameters that change no weight and no loss, at most a time.
TIME_ONLY = ("train.nrof_preprocess_threads", "train.log_histograms")
#: Parameters that name the weights that a run started from; what is compared is the hash of their content.
START = ("train.pretrained_model", "train.pretrained_hash")
#: Parameter of one worker; what is compared is the batch of all of them, `progress.batch_size`.
ONE_WORKERS_BATCH = ("train.batch_size",)
#: Parameters that make the learning rates; what is compared is the rates that were applied, where a record has them.
RATES = (
    "train.learning_rate",
    "train.learning_rate_decay_factor",
    "train.learning_rate_decay_epochs",
    "train.schedule",
    "train.scale_learning_rate",
)

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
    "device_peak_bytes": "memory.device_peak_bytes",
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
        tensorflow=tensorflow_text(run),
        arithmetic=arithmetic_text(run),
        work=work,
        settings=settings(run),
        figures={key: run.value(path) for key, path in RECORDED.items()}
        | {"joules": run.joules, "joules_per_image": run.joules_per_image}
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
    """What a reader needs to know of a run's work: network, data, length and batch."""
    return {
        "model": run.value("parameters.network.model_def"),
        "pooling": run.value("parameters.network.pooling"),
        "embedding_size": run.value("parameters.network.embedding_size"),
        "logarithm": run.value("parameters.spd.method"),
        "normalisation": run.value("parameters.network.normalisation"),
        "image_size": run.value("parameters.normalise.size"),
        "optimizer": run.value("parameters.train.optimizer"),
        "learning_rate": _rate_of(run),
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
        ("epochs", "epochs"),
        ("epoch_size", "steps an epoch"),
        ("steps", "steps"),
        ("batch_size", "batch size"),
    ):
        here, there = (item.value(f"progress.{key}") for item in (run, reference))
        if here != there:
            found.append(f"{what}: {_plain(here)} here, {_plain(there)} at {reference.title}")
    if run.value("data.pretrained") != reference.value("data.pretrained"):
        here, there = (_start_text(item.value("data.pretrained")) for item in (run, reference))
        found.append(f"starts from {here} here, from {there} at {reference.title}")
    compared_otherwise = TIME_ONLY + START + ONE_WORKERS_BATCH
    if all(item.value("progress.learning_rates") for item in (run, reference)):
        found += _other_rates(run, reference)
        compared_otherwise += RATES
    elif _scaled_workers(run) != _scaled_workers(reference):
        here, there = (_scaled_workers(item) for item in (run, reference))
        found.append(f"learning rate: scaled for {here} workers here, for {there} at {reference.title}")
    for key, here, there in _other_parameters(run, reference):
        if key not in compared_otherwise:
            found.append(f"parameter {key}: {_plain(here)} here, {_plain(there)} at {reference.title}")
    return found


def _other_parameters(run, reference):
    ours, theirs = (flatten(item.value("parameters") or {}) for item in (run, reference))
    return [
        (key, ours.get(key), theirs.get(key))
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]


def _other_rates(run, reference):
    """The first epoch in which another learning rate was applied, in words; none where there is none."""
    ours, theirs = (dict(item.value("progress.learning_rates")) for item in (run, reference))
    here = there = None
    for epoch in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(epoch, here), theirs.get(epoch, there)
        if not math.isclose(here, there, rel_tol=ROUNDING):
            return [f"learning rate from epoch {epoch}: {here:g} here, {there:g} at {reference.title}"]
    return []


def _scaled_workers(run):
    """For how many workers the learning rate was scaled."""
    return _workers(run) if run.value("parameters.train.scale_learning_rate") not in (None, "none") else 1


def _workers(run):
    return run.value("device.count") or 1


def _workers_text(run):
    count, batch = _workers(run), run.value("parameters.train.batch_size")
    return f"{count} {'worker' if count == 1 else 'workers'} of batch {batch}"


def _every(steps):
    return "every step" if steps == 1 else f"one step in {steps}"


def _start_text(pretrained):
    return f"the weights {pretrained[:12]}" if pretrained else "new weights"


def remarks(run, reference):
    """What differs between comparable runs beside the device, and may explain a difference in their figures."""
    at = f"at {reference.title}"
    found = []
    for path, what in (("tensorflow.version", "TensorFlow"), ("tensorflow.build", "TensorFlow build")):
        here, there = (_plain(item.value(path)) for item in (run, reference))
        if here != there:
            found.append(f"{what} {here} here, {there} {at}")
    if _workers(run) != _workers(reference):
        here, there = (_workers_text(item) for item in (run, reference))
        found.append(f"{here} here, {there} {at}: each normalises by the statistics of its own batch")
    here, there = (item.value("progress.steps_per_loss") or 1 for item in (run, reference))
    if here != there:
        found.append(f"its losses are those of {_every(here)}, at {reference.title} those of {_every(there)}")
    here, there = (item.value("energy.source") for item in (run, reference))
    if here and there and here != there:
        found.append(f"its energy is that of {here}, at {reference.title} that of {there}")
    if run.kind == reference.kind:
        # Of one kind, what a device was set to is what tells the runs apart.
        ours, theirs = (flatten(item.value("device")) for item in (run, reference))
        for key in sorted((ours.keys() | theirs.keys()) - {"count"}):
            here, there = (_plain(item.get(key)) for item in (ours, theirs))
            if here != there:
                found.append(f"device {key} {here} here, {there} {at}")
    for key, here, there in _other_parameters(run, reference):
        if key in TIME_ONLY:
            found.append(f"parameter {key}: {_plain(here)} here, {_plain(there)} {at}")
    if run.value("code.hash") != reference.value("code.hash"):
        found.append(f"its code is not that of {reference.title} (the hashes of the code differ)")
    scored = [scored_text(item.score("split"), item.score("checkpoint")) for item in (run, reference)]
    if None not in scored and scored[0] != scored[1]:
        found.append(f"scored on {scored[0]} here, on {scored[1]} {at}")
    return found


def scored_text(split, checkpoint):
    """Which pictures and weights a score is of, in words; None where there is no score."""
    return f"{split} by the {checkpoint} checkpoint" if split else None


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
        for key in ("loss", "cross_entropy", "seconds_per_step", "images_per_second", "peak_bytes", "device_peak_bytes")
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

    Returns a list of `{"what", "here", "published"}`. The port's README names data, batch and epochs; the rest are the
    defaults of its options, which it says nothing against.
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
    for what, path, original in ORIGINAL_SETTINGS:
        here = run.value(f"parameters.{path}")
        if here != original:
            found.append((what, _plain(here), _plain(original)))
    if run.value("parameters.train.optimizer") == "ADAM":
        epsilon = run.value("parameters.train.adam.epsilon")
        if epsilon != ORIGINAL_ADAM_EPSILON:
            found.append(("ADAM's epsilon", _plain(epsilon), _plain(ORIGINAL_ADAM_EPSILON)))
    here, original = _rate_of(run), rate_text(_ORIGINAL_RATE)
    if here != original:
        found.append(("learning rate", here, original))
    augmentation = [name for name in ("crop", "flip", "rotate") if run.value(f"parameters.train.random_{name}")]
    if augmentation:
        found.append(("augmentation", ", ".join(augmentation), "none"))
    if run.value("data.pretrained"):
        found.append(("start", _start_text(run.value("data.pretrained")), "new weights"))
    if not (run.kind == "npu" and "910" in str(run.value("device.name"))):
        found.append(("device", device_text(run), ", ".join(devices)))
    return [dict(zip(("what", "here", "published"), item, strict=True)) for item in found]


_ORIGINAL_RATE = {"learning_rate": -1.0, "schedule": NAMED_SCHEDULES["model1"]}


def _rate_of(run):
    """The learning rate of a run, in words."""
    text, workers = rate_text(run.value("parameters.train") or {}), _scaled_workers(run)
    scale = run.value("parameters.train.scale_learning_rate")
    return text if workers == 1 else f"{text}, scaled ({scale}) for {workers} workers"


def rate_text(train):
    """The learning rate of the section `train` of a record, in words."""
    rate, schedule = train.get("learning_rate"), train.get("schedule")
    if rate is None or rate < 0:
        return ", ".join(f"{value:g} from epoch {first}" for first, value in schedule or ()) or "nothing"
    factor, epochs = train.get("learning_rate_decay_factor", 1), train.get("learning_rate_decay_epochs")
    return f"{rate:g}" if factor == 1 else f"{rate:g}, times {factor:g} every {epochs} epochs"


#: What `dataset.kind` means, in words.
DATA_NAMES = {"rendered": "drawn faces", "folder": "a folder of pictures", "sfew_100": "SFEW_100"}


def device_text(run):
    """A run's device in words: how many, and what it calls itself."""
    count, name = run.value("device.count"), run.value("device.name")
    many = f"{count} \N{MULTIPLICATION SIGN} " if isinstance(count, int) and count > 1 else ""
    return f"{many}{name}" if name else f"{many}{run.kind.upper()} (it does not tell its name)"


def tensorflow_text(run):
    """The TensorFlow of a run: version, and build where that says something else."""
    version, build = (_plain(run.value(f"tensorflow.{key}")) for key in ("version", "build"))
    return version if build in ("tensorflow", "nothing") else f"{version} ({build})"


#: The precision mode of an NPU's adapter that is told none.
ADAPTER_DEFAULT = "allow_fp32_to_fp16"
_TAKES_FLOAT16 = "float16 where the chip has no float32 operation"


def arithmetic_text(run):
    """What a run's device was told of how to compute, in words; None where its kind has no such setting on record."""
    if run.kind == "npu":
        return _npu_arithmetic(run)
    tf32 = run.value("device.tf32")
    return {True: "float32 with products in TF32", False: "float32, TF32 off"}[tf32] if isinstance(tf32, bool) else None


def _npu_arithmetic(run):
    options = run.value("device.options")
    if not isinstance(options, dict):
        return "a precision that its record does not tell"
    mode, newer = options.get("precision_mode"), run.value("device.options.parameter_map.precision_mode_v2")
    if newer:
        told = [f"precision_mode_v2 {newer}"]
    elif mode:
        told = [f"precision_mode {mode}" + (f" ({_TAKES_FLOAT16})" if mode == ADAPTER_DEFAULT else "")]
    else:
        told = [f"no precision_mode, so by the adapter's default, {ADAPTER_DEFAULT} ({_TAKES_FLOAT16})"]
    scaling = options.get("loss_scaling")
    if scaling:
        scale = {"dynamic": " from ", "fixed": " at "}.get(str(scaling))
        told.append(f"loss_scaling {scaling}" + (f"{scale}{_plain(options.get('loss_scale'))}" if scale else ""))
    if options.get("iterations_per_loop"):
        told.append(f"iterations_per_loop {options['iterations_per_loop']}")
    return ", ".join(told)


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
