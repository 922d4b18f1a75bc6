"""An NVIDIA GPU as a device, for TensorFlow builds that have CUDA."""

import functools
import itertools
import os
import re
from typing import TYPE_CHECKING, Optional

import tensorflow.compat.v1 as tf
from tensorflow.python.client import device_lib
from tensorflow.python.platform import build_info

from covpool.devices import meter, smi
from covpool.devices.device import Device
from covpool.devices.errors import DeviceError
from covpool.distributed.workers import ALONE, Alone

if TYPE_CHECKING:
    from covpool.config.sections import GpuOptions

# The value at the start of this process, before a GPU is opened.
_LEFT_VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")

#: A card in CUDA_VISIBLE_DEVICES: its number, its UUID, or the UUID of one of its MIG partitions.
_CARD = re.compile(r"(\d+|GPU-.+|MIG-.+)\Z")

#: The newest compute capability that CUDA 10 supports: that of Turing.
NEWEST_OF_CUDA_10 = (7, 5)

#: Which TensorFlow supports which GPU. This is part of the error messages for a GPU that is not found.
WHICH_BUILD = (
    "TensorFlow 1.15 from PyPI supports the GPUs of CUDA 10.0 (Turing, Volta and older); for newer ones set "
    "device_options.{name}.python to a Python that has NVIDIA's own TensorFlow 1.15, or a TensorFlow 2 with CUDA"
)


def open_gpu(name: str, options: "GpuOptions", workers: Alone = ALONE) -> Device:
    """Open the GPU that the options describe.

    The call sets environment variables that CUDA reads.

    Args:
        name: The name of the device in params.yaml.
        options: Its options.
        workers: The workers that train together. Worker i of a host uses the GPU `visible_device` + i.

    Returns:
        The device.

    Raises:
        DeviceError: This TensorFlow does not support CUDA, does not find the GPU, or is too old for it.
    """
    if not tf.test.is_built_with_cuda():
        raise DeviceError(
            f"device {name!r} is a GPU, but this TensorFlow ({tf.version.VERSION}) was built without CUDA, like the "
            f"builds intel and tf2 of `make setup`; the build stock has CUDA. {WHICH_BUILD.format(name=name)}."
        )
    card = _card(name, options.visible_device + workers.local_rank)
    # The session's visible_device_list is not used: with it, TensorFlow 1.15 aborts if CUDA finds no card.
    os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=card)
    # TF32 would round the factors of float32 products to 10 bits of mantissa. CUDA's libraries read this variable when
    # they are loaded.
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
        # Only the value 0 disables TF32. True does not imply that the card supports TF32.
        "tf32": os.environ["NVIDIA_TF32_OVERRIDE"] != "0",
    }
    gauge = meter.PowerGauge("the card by nvidia-smi", functools.partial(smi.nvidia_usage, card))
    return Device(name, "gpu", "/device:GPU:0", config, record, workers, gauge)


def session_config(options: "GpuOptions") -> tf.ConfigProto:
    """Configure a session on the GPU.

    TensorFlow allocates memory when it is needed, up to the fraction `gpu_memory_fraction` of the card's memory.

    Args:
        options: The options of the device.

    Returns:
        The ConfigProto of the session.
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    config.gpu_options.per_process_gpu_memory_fraction = options.gpu_memory_fraction
    return config


def cuda_version() -> Optional[str]:
    """Return the version of CUDA that this TensorFlow was built with.

    Returns:
        The version, for example "10" or "12.5.1", or None if it is unknown.
    """
    told = getattr(build_info, "build_info", {})
    return told.get("cuda_version") or getattr(build_info, "cuda_version_number", None)


def _refuse_newer(name, fields, cuda):
    """Raise DeviceError if the card is too new for a TensorFlow that was built with CUDA 10.

    Such a TensorFlow lists newer cards, but has neither code nor libraries for them. The check uses the version of
    CUDA. TensorFlow's version is not enough, because NVIDIA's builds have the same one with a newer CUDA.

    Args:
        name: The name of the device in params.yaml.
        fields: TensorFlow's description of the card, {field: text}.
        cuda: The version of CUDA, or None if it is unknown.

    Raises:
        DeviceError: The card needs a newer CUDA.
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
    """Return the card's identifier for CUDA_VISIBLE_DEVICES.

    Args:
        name: The name of the device in params.yaml.
        number: The number of the card. If CUDA_VISIBLE_DEVICES was set at the start, this is the position in its list.
            Otherwise it is the number that nvidia-smi shows.

    Returns:
        The number or UUID of the card.

    Raises:
        DeviceError: CUDA_VISIBLE_DEVICES has too few cards.
    """
    if _LEFT_VISIBLE is None:
        return str(number)
    # CUDA stops reading the list at the first invalid entry, for example -1 or an empty one.
    cards = list(itertools.takewhile(_CARD.match, (each.strip() for each in _LEFT_VISIBLE.split(","))))
    if number >= len(cards):
        left = f"{len(cards)} card(s), {','.join(cards)}, counted from 0"
        raise DeviceError(
            f"device {name!r}: visible_device is {number}, but CUDA_VISIBLE_DEVICES leaves "
            f"{left if cards else f'no card: it is {_LEFT_VISIBLE!r}'}."
        )
    return cards[number]
