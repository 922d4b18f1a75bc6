"""The file that one side of a device comparison writes, and the check that two sides did the same work.

A side is a dictionary of arrays:

| name | what |
|---|---|
| values | float64 [steps, len(VALUES)] |
| gradients | float32 [steps, variables], the norms of the gradients |
| variables | the names of the variables |
| layer/<name> | a layer's output in the first step; the layers are in the order of the computation |
| about | JSON: `side` and `device` that it ran on; `tensorflow`, the build; `work`, the inputs of the computation |
"""

import json
import zipfile
import zlib
from typing import Any, Dict, List, Mapping

import numpy as np

from covpool.config import as_plain
from covpool.pipeline import artifacts

#: The values that are stored for each step.
VALUES = ("loss", "cross_entropy", "l2_loss", "center_loss", "accuracy")
LAYER = "layer/"
#: The keys of `params.train` that do not affect the steps of a side. The number of steps and the learning rate are
#: given on the command line, and dropout is off.
_WITHOUT_EFFECT = (
    "epochs",
    "epoch_size",
    "learning_rate",
    "schedule",
    "learning_rate_decay_epochs",
    "learning_rate_decay_factor",
    "scale_learning_rate",
    "keep_probability",
    "nrof_preprocess_threads",
    "pretrained_model",
    "pretrained_hash",
    "log_histograms",
)
OPTIMISERS = ("adam", "adadelta", "adagrad", "rmsprop", "mom")

#: The errors that numpy and Python's `with` raise if a file is not an archive, is a single array, or is truncated.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    TypeError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
)


class RecordError(ValueError):
    """A side's file can't be used, or two sides did not do the same work. The message gives the reason."""


def work(params: Any, root: Any, start: Any, steps: int, rate: float) -> Dict[str, Any]:
    """List the inputs of a side's computation. Two sides can be compared if their inputs are equal.

    Args:
        params: a `config.Params`.
        root: the `pathlib.Path` of the folder with the pipeline's artifacts.
        start: the `pathlib.Path` prefix of the checkpoint that the side starts from.
        steps: the number of training steps.
        rate: the learning rate.

    Returns:
        Plain values for JSON, by name.

    Raises:
        ArtifactError: the data or the checkpoint can't be read.
    """
    found = {
        "steps": steps,
        "learning rate": rate,
        "weights to start from": artifacts.checkpoint_hash(start),
        f"pictures of {artifacts.FACES}": artifacts.faces_hash(root / artifacts.FACES),
        "dataset.classes": list(params.dataset.classes),
        "normalise.size": params.normalise.size,
        "normalise.margin": params.normalise.margin,
    }
    left_out = _WITHOUT_EFFECT + tuple(name for name in OPTIMISERS if name != params.train.optimizer.lower())
    for name in ("network", "spd", "train"):
        section = as_plain(getattr(params, name))
        found.update({f"{name}.{key}": section[key] for key in section if key not in left_out})
    return found


def write(path: Any, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a side's file.

    Args:
        path: the `pathlib.Path` of the .npz file.
        about: the content of the entry `about`, plain values for JSON.
        arrays: all other entries by name.

    Raises:
        OSError: the file can't be written.
    """
    with artifacts.atomic_file(path, "wb") as stream:
        np.savez(stream, about=np.array(json.dumps(about)), **arrays)


def read(path: Any) -> Dict[str, np.ndarray]:
    """Read a side's file.

    Args:
        path: the `pathlib.Path` of the .npz file.

    Returns:
        The side's arrays by name.

    Raises:
        RecordError: the file does not exist, is damaged, is not a side's file, or lacks the entry `work`.
    """
    try:
        with np.load(str(path), allow_pickle=False) as stream:
            found = {name: stream[name] for name in stream.files}
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist.") from None
    except _UNREADABLE as error:
        raise RecordError(
            f"{path} is damaged, or was not written by covpool.diagnostics.parity_side "
            f"({type(error).__name__}: {error})."
        ) from None
    if not {"values", "gradients", "variables", "about"} <= set(found):
        raise RecordError(f"{path} was not written by covpool.diagnostics.parity_side.")
    about = _about(found)
    if not isinstance(about.get("work"), dict):
        raise RecordError(
            f"{path} does not say what was computed; an older covpool.diagnostics.parity_side wrote it. "
            "Run that side again."
        )
    steps, variables = about["work"].get("steps"), len(found["variables"])
    shapes = {"values": (steps, len(VALUES)), "gradients": (steps, variables)}
    wrong = [name for name, shape in shapes.items() if found[name].shape != shape]
    wrong += [name for name in found if name not in ("about", "variables") and found[name].dtype.kind != "f"]
    wrong += [name for name in ("device", "tensorflow") if not isinstance(about.get(name), dict)]
    if wrong:
        raise RecordError(f"{path} is damaged ({', '.join(wrong)}). Run that side again.")
    return found


def _about(found):
    try:
        about = json.loads(str(found["about"]))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def refuse_other_work(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    """Check that two sides did the same work.

    Args:
        one: the first side.
        other: the second side.

    Raises:
        RecordError: the sides differ in their inputs, variables, layers or shapes. The message lists the differences.
    """
    ones, others = _about(one), _about(other)
    told = [
        "{}: {} and {}".format(what, *(_short(side["work"].get(what, "unknown")) for side in (ones, others)))
        for what in list(ones["work"]) + [each for each in others["work"] if each not in ones["work"]]
        if ones["work"].get(what, "unknown") != others["work"].get(what, "unknown")
    ]
    for what, names in (("variables", _variables), ("layers", layers)):
        told += (
            [f"{what} that only one side has: {', '.join(sorted(set(names(one)) ^ set(names(other))))}"]
            if names(one) != names(other)
            else []
        )
    told += [
        f"output of {name}: {one[LAYER + name].shape} and {other[LAYER + name].shape}"
        for name in layers(one)
        if LAYER + name in other and one[LAYER + name].shape != other[LAYER + name].shape
    ]
    if told:
        raise RecordError(
            f"{ones['side']} and {others['side']} did not compute the same thing, so the devices can't be compared: "
            f"{'; '.join(told)}."
        )


def layers(side: Mapping[str, np.ndarray]) -> List[str]:
    """List the names of a side's layers.

    Args:
        side: a side's arrays by name.

    Returns:
        The names, in the order of the computation.
    """
    return [name[len(LAYER) :] for name in side if name.startswith(LAYER)]


def _variables(side):
    return list(map(str, side["variables"]))


def _short(value):
    """Shorten a hash to its first 12 digits, and return any other value unchanged."""
    return value[:12] if isinstance(value, str) and len(value) == 64 else value
