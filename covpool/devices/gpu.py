"""An NVIDIA GPU as a device, for TensorFlow builds that have CUDA."""

import functools
import itertools
import os
import re

import tensorflow.compat.v1 as tf
from tensorflow.python.client import device_lib
from tensorflow.python.platform import build_info

from covpool.devices import meter, smi
from covpool.devices.device import Device
from covpool.devices.errors import DeviceError
from covpool.distributed.workers import ALONE

# As this process found it, before a GPU was opened.
_LEFT_VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")

#: A card in CUDA_VISIBLE_DEVICES: its number, or the name of it or of a part of it.
_CARD = re.compile(r"(\d+|GPU-.+|MIG-.+)\Z")

#: The newest compute capability that CUDA 10 has: Turing's.
NEWEST_OF_CUDA_10 = (7, 5)

#: Which TensorFlow drives which GPU; told wherever one is not found.
WHICH_BUILD = (
    "TensorFlow 1.15 from PyPI supports the GPUs of CUDA 10.0 (Turing, Volta and older); for newer ones set "
    "device_options.{name}.python to a Python that has NVIDIA's own TensorFlow 1.15, or a TensorFlow 2 with CUDA"
)


def open_gpu(name, options, workers=ALONE):
    """The GPU that `options`, a `params.GpuOptions`, describe; for workers, each its own, counted from it on."""
    if not tf.test.is_built_with_cuda():
        raise DeviceError(
            f"device {name!r} is a GPU, but this TensorFlow ({tf.version.VERSION}) was built without CUDA, like the "
            f"builds intel and tf2 of `make setup`; the build stock has CUDA. {WHICH_BUILD.format(name=name)}."
        )
    card = _card(name, options.visible_device + workers.local_rank)
    # Not by the session's visible_device_list: TensorFlow 1.15 aborts on that where CUDA finds no card.
    os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=card)
    # TF32 would round the products of float32 to 10 bits of mantissa; CUDA's libraries read this when they load.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    config = session_config(options)
    found = [device for device in device_lib.list_local_devices(config) if device.device_type == "GPU"]
    if not found:
        raise DeviceError(
            f"device {name!r} is GPU {card}, but TensorFlow {tf.version.VERSION} finds no GPU: check the output of "
            f"`nvidia-smi`. {WHICH_BUILD.format(name=name)}."
        )
    fields = dict(part.split(": ", 1) for part in found[0].physical_device_desc.split(", ") if ": " in part)
    _refuse_newer(name, fields, cuda_version())
    record = {
        "name": fields.get("name"),
        "driver": smi.nvidia_driver(card),
        "threads": None,
        # Only 0 forbids it; whether a card has it at all is the card's affair.
        "tf32": os.environ["NVIDIA_TF32_OVERRIDE"] != "0",
    }
    gauge = meter.PowerGauge("the card by nvidia-smi", functools.partial(smi.nvidia_usage, card))
    return Device(name, "gpu", "/device:GPU:0", config, record, workers, gauge)


def session_config(options):
    """The session's ConfigProto: memory is taken as it is needed, up to the fraction that the options allow."""
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    config.gpu_options.per_process_gpu_memory_fraction = options.gpu_memory_fraction
    return config


def cuda_version():
    """The version of CUDA that this TensorFlow was built with, as text: `10`, `12.5.1`; None where it does not say."""
    told = getattr(build_info, "build_info", {})
    return told.get("cuda_version") or getattr(build_info, "cuda_version_number", None)


def _refuse_newer(name, fields, cuda):
    """A TensorFlow with CUDA 10 lists newer cards, and has neither code nor libraries for them; fields: of the card.

    By CUDA, not by TensorFlow's version: NVIDIA's own builds have the same one, with newer CUDA.
    """
    capability = re.match(r"(\d+)\.(\d+)\Z", fields.get("compute capability", ""))
    built_with = re.match(r"\d+", cuda or "")
    if capability is None or built_with is None or int(built_with.group()) > 10:
        return
    if tuple(map(int, capability.groups())) > NEWEST_OF_CUDA_10:
        raise DeviceError(
            f"device {name!r} is {fields.get('name')} with compute capability {capability.group()}, but TensorFlow "
            f"{tf.version.VERSION} was built with CUDA {cuda}, which supports at most "
            f"{'.'.join(map(str, NEWEST_OF_CUDA_10))}. {WHICH_BUILD.format(name=name)}."
        )


def _card(name, number):
    """The card's name for CUDA: its number as nvidia-smi counts, among those that a scheduler has left this process."""
    if _LEFT_VISIBLE is None:
        return str(number)
    # CUDA looks no further than the first that is no card: -1, nothing at all.
    cards = list(itertools.takewhile(_CARD.match, (each.strip() for each in _LEFT_VISIBLE.split(","))))
    if number >= len(cards):
        left = f"{len(cards)} card(s), {','.join(cards)}, counted from 0"
        raise DeviceError(
            f"device {name!r}: visible_device is {number}, but CUDA_VISIBLE_DEVICES leaves "
            f"{left if cards else f'no card: it is {_LEFT_VISIBLE!r}'}."
        )
    return cards[number]
