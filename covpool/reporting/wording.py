"""Figures and facts of a run in words."""

from covpool.reporting.runs import Run

BYTES_PER_GIB = 2**30
ABSENT = "\N{EN DASH}"

#: What `dataset.kind` means, in words.
DATA_NAMES = {"rendered": "drawn faces", "folder": "a folder of pictures", "sfew_100": "SFEW_100"}

#: The precision mode of the NPU adapter if none is set.
ADAPTER_DEFAULT = "allow_fp32_to_fp16"
_TAKES_FLOAT16 = "float16 for operations that the chip does not have in float32"


def plain(value: object) -> str:
    """A value of a record in a sentence."""
    return f"{value:g}" if isinstance(value, float) else "nothing" if value is None else str(value)


def count(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def fixed(value: float | None, decimals: int) -> str:
    """A number with so many decimals."""
    return ABSENT if value is None else f"{value:.{decimals}f}"


def seconds(value: float | None) -> str:
    """Seconds with three decimals, as published, or with three digits if that is more precise."""
    return ABSENT if value is None else f"{value:.3f}" if value >= 0.1 else f"{value:#.3g}"


def share(value: float | None) -> str:
    """A share as a percentage with one decimal."""
    return ABSENT if value is None else f"{100 * value:.1f} %"


def interval(bounds: tuple[float, float] | None) -> str:
    """The ends of a confidence interval, in percent."""
    return ABSENT if bounds is None else f"{100 * bounds[0]:.1f}\N{EN DASH}{100 * bounds[1]:.1f} %"


def short_percent(value: float) -> str:
    """A share as a percentage, without a decimal that says nothing: 87.5 %, 88 %."""
    return f"{round(100 * value, 1):g}\N{NO-BREAK SPACE}%"


def times_reference(value: float | None) -> str:
    """A ratio to the reference."""
    return ABSENT if value is None else f"{value:#.3g}".rstrip(".") + " \N{MULTIPLICATION SIGN}"


def gibibytes(value: float | None) -> str:
    """Bytes in GiB."""
    return ABSENT if value is None else f"{value / BYTES_PER_GIB:.2f} GiB"


def difference(value: float | None) -> str:
    """A relative difference with its sign."""
    return ABSENT if value is None else signed_percent(value)


def energy(value: float | None) -> str:
    """Joules in kJ."""
    return ABSENT if value is None else f"{value / 1000:.1f} kJ"


def joules(value: float | None) -> str:
    """Joules with three digits."""
    return ABSENT if value is None else f"{value:.0f} J" if value >= 100 else f"{value:#.3g} J"


def duration(value: float | None) -> str:
    """Seconds as a duration: `45 s`, `1 min 51 s`, `2 h 05 min`."""
    if value is None:
        return ABSENT
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def percent(value: float) -> str:
    """A share as a percentage, as short as it is exact."""
    return f"{100 * value:.4g} %"


def signed_percent(value: float) -> str:
    """A share as a percentage with its sign."""
    return f"{100 * value:+.2f} %".replace("-", "\N{MINUS SIGN}")


def device_text(run: Run) -> str:
    """A run's device: how many, and its name."""
    number, name = run.value("device.count"), run.value("device.name")
    many = f"{number} \N{MULTIPLICATION SIGN} " if isinstance(number, int) and number > 1 else ""
    return f"{many}{name}" if name else f"{many}{run.kind.upper()} (name unknown)"


def tensorflow_text(run: Run) -> str:
    """A run's TensorFlow: the version, and the build if that says more."""
    version, build = (plain(run.value(f"tensorflow.{key}")) for key in ("version", "build"))
    return version if build in ("tensorflow", "nothing") else f"{version} ({build})"


def arithmetic_text(run: Run) -> str | None:
    """The precision that a run's device computed in, or None if its kind records no such setting."""
    if run.kind == "npu":
        return _npu_arithmetic(run)
    tf32 = run.value("device.tf32")
    return {True: "float32 with products in TF32", False: "float32, TF32 off"}[tf32] if isinstance(tf32, bool) else None


def _npu_arithmetic(run):
    options = run.value("device.options")
    if not isinstance(options, dict):
        return "an unknown precision (its record does not say)"
    mode, newer = options.get("precision_mode"), run.value("device.options.parameter_map.precision_mode_v2")
    if newer:
        parts = [f"precision_mode_v2 {newer}"]
    elif mode:
        parts = [f"precision_mode {mode}" + (f" ({_TAKES_FLOAT16})" if mode == ADAPTER_DEFAULT else "")]
    else:
        parts = [f"no precision_mode set, so the adapter's default, {ADAPTER_DEFAULT} ({_TAKES_FLOAT16})"]
    scaling = options.get("loss_scaling")
    if scaling:
        scale = {"dynamic": " from ", "fixed": " at "}.get(str(scaling))
        parts.append(f"loss_scaling {scaling}" + (f"{scale}{plain(options.get('loss_scale'))}" if scale else ""))
    if options.get("iterations_per_loop"):
        parts.append(f"iterations_per_loop {options['iterations_per_loop']}")
    return ", ".join(parts)


def start_text(pretrained: str | None) -> str:
    """The weights that a run started from; `pretrained` is the hash of their content."""
    return f"the weights {pretrained[:12]}" if pretrained else "new weights"


def workers(run: Run) -> int:
    """How many workers trained together."""
    return run.value("device.count") or 1


def scaled_workers(run: Run) -> int:
    """For how many workers the learning rate was scaled."""
    return workers(run) if run.value("parameters.train.scale_learning_rate") not in (None, "none") else 1


def run_rate_text(run: Run) -> str:
    """The learning rate of a run."""
    text, number = rate_text(run.value("parameters.train") or {}), scaled_workers(run)
    scale = run.value("parameters.train.scale_learning_rate")
    return text if number == 1 else f"{text}, scaled ({scale}) for {number} workers"


def rate_text(train: dict) -> str:
    """The learning rate of the section `train` of a record: `0.001 from epoch 0, 0.0003 from epoch 5`."""
    rate, schedule = train.get("learning_rate"), train.get("schedule")
    if rate is None or rate < 0:
        return ", ".join(f"{value:g} from epoch {first}" for first, value in schedule or ()) or "nothing"
    factor, epochs = train.get("learning_rate_decay_factor", 1), train.get("learning_rate_decay_epochs")
    return f"{rate:g}" if factor == 1 else f"{rate:g}, times {factor:g} every {epochs} epochs"


def scored_text(split: str, checkpoint: str) -> str:
    """Which pictures and weights a score is of."""
    return f"{split} with the {checkpoint} checkpoint"


def split_role(split: str, checkpoint: str, data: str | None) -> str:
    """What the score of a split means: whether these pictures were seen, and whether they chose the checkpoint."""
    if split == "train":
        return "the pictures that it was trained on"
    # Only of drawn faces it is certain that no person is in two splits.
    unseen = f"{'people' if data == 'rendered' else 'pictures'} unseen in training"
    if checkpoint != "best":
        return unseen
    return f"{unseen}; {'had no part in choosing the checkpoint' if split == 'test' else 'chose the checkpoint'}"
