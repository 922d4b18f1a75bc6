"""Under which conditions a run's figures and the Ascend port's published ones were measured differently."""

from covpool.config import NAMED_SCHEDULES
from covpool.port.published_setting import IN_EFFECT
from covpool.reporting.published import published_training
from covpool.reporting.runs import Run
from covpool.reporting.wording import DATA_NAMES, device_text, plain, rate_text, run_rate_text, start_text

#: Conditions that one parameter decides: name, path among the parameters.
PARAMETERS = (
    ("network", "network.model_def"),
    ("pooling", "network.pooling"),
    ("vectorisation", "network.vectorise"),
    ("embedding size", "network.embedding_size"),
    ("batch norm decay", "network.batch_norm_decay"),
    ("matrix logarithm", "spd.method"),
    ("image size", "normalise.size"),
    ("input normalisation", "network.normalisation"),
    ("optimizer", "train.optimizer"),
    ("share kept by dropout", "train.keep_probability"),
    ("weight decay", "train.weight_decay"),
    ("center loss factor", "train.center_loss_factor"),
)
_ORIGINAL_RATE = {
    "learning_rate": IN_EFFECT["train.learning_rate"],
    "schedule": NAMED_SCHEDULES[IN_EFFECT["train.schedule"]],
}

#: All conditions, in the order in which they are listed.
PUBLISHED_CONDITIONS = (
    "data",
    "batch size",
    "epochs",
    "steps per epoch",
    "device",
    *(name for name, _ in PARAMETERS),
    "ADAM's epsilon",
    "learning rate",
    "augmentation",
    "start",
)


def differs_from_published(run: Run) -> list[dict[str, str]]:
    """Return the conditions that differ, as `{"what", "here", "published"}`.

    The port's README names data, batch and epochs. The rest are the defaults of its options.
    """
    published = published_training("gpu")["loss"]
    devices = [figures["loss"].device for figures in map(published_training, ("npu", "gpu"))]
    kind = run.value("data.kind")
    if "sfew" in str(kind).lower():
        found = [("data", f"{kind}; these may be other pictures", published.data)]
    else:
        found = [("data", DATA_NAMES.get(kind, str(kind)), published.data)]
    for key, what in (("batch_size", "batch size"), ("epochs", "epochs"), ("epoch_size", "steps per epoch")):
        if run.value(f"progress.{key}") != getattr(published, key):
            found.append((what, plain(run.value(f"progress.{key}")), str(getattr(published, key))))
    for what, path in PARAMETERS:
        here = run.value(f"parameters.{path}")
        if here != IN_EFFECT[path]:
            found.append((what, plain(here), plain(IN_EFFECT[path])))
    if run.value("parameters.train.optimizer") == "ADAM":
        epsilon, original = run.value("parameters.train.adam.epsilon"), IN_EFFECT["train.adam"]["epsilon"]
        if epsilon != original:
            found.append(("ADAM's epsilon", plain(epsilon), plain(original)))
    here, original = run_rate_text(run), rate_text(_ORIGINAL_RATE)
    if here != original:
        found.append(("learning rate", here, original))
    augmentation = [name for name in ("crop", "flip", "rotate") if run.value(f"parameters.train.random_{name}")]
    if augmentation:
        found.append(("augmentation", ", ".join(augmentation), "none"))
    if run.value("data.pretrained"):
        found.append(("start", start_text(run.value("data.pretrained")), "new weights"))
    if not (run.kind == "npu" and "910" in str(run.value("device.name"))):
        found.append(("device", device_text(run), ", ".join(devices)))
    return [dict(zip(("what", "here", "published"), item, strict=True)) for item in found]
