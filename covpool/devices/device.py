"""Opening a device: the probe, the session's configuration, and the record of what was found."""

import os
import subprocess

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow.python.client import device_lib

from covpool.devices.host import cpu_name

# Deprecations inside TensorFlow itself are nothing that a user could act on.
tf.logging.set_verbosity(tf.logging.ERROR)

# As this process found it, before a GPU was opened.
_LEFT_VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")


class DeviceError(RuntimeError):
    """The device that was asked for is not there, or TensorFlow can't drive it."""


class Device:
    """A device that was found.

    name: the run's name in params.yaml; kind: cpu or gpu; place: TensorFlow's name for it; config: the session's
    ConfigProto; record: what a run's record says of it (`name`, `count`, `driver`, `threads`).
    """

    def __init__(self, name, kind, place, config, record):
        self.name = name
        self.kind = kind
        self.place = place
        self.config = config
        self.record = record

    def session(self, graph):
        return tf.Session(graph=graph, config=self.config)


def open_device(name, options):
    """Find the device that `options` (of params.device_options) describe; DeviceError where it is not there."""
    if options.kind == "cpu":
        return open_cpu(name, options.threads)
    return _open_gpu(name, options)


def open_cpu(name="cpu", threads=0):
    """The processor. threads: of an operation; 0: as many as this process may use cores."""
    # A build for GPUs complains of a missing driver, of which a run on the processor has no use. What was asked for by
    # hand stays; errors that matter arrive as exceptions.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "2":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    threads = threads or len(os.sched_getaffinity(0))
    config = tf.ConfigProto(
        # One operation at a time, on all threads: the big ones fill the cores, and sums keep their order.
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=1,
        device_count={"GPU": 0},
        allow_soft_placement=False,
    )
    # It would gather additions into one of many terms, whose order is that in which memory becomes free.
    config.graph_options.rewrite_options.arithmetic_optimization = rewriter_config_pb2.RewriterConfig.OFF
    record = {"name": cpu_name(), "count": 1, "driver": None, "threads": threads}
    return Device(name, "cpu", "/device:CPU:0", config, record)


def _open_gpu(name, options):
    if not tf.test.is_built_with_cuda():
        raise DeviceError(
            "device {!r} is a GPU, and this TensorFlow ({}) was built without CUDA: set up a build that has it "
            "(`make setup TF_BUILD=stock`), or point COVPOOL_TF_PYTHON at one.".format(name, tf.version.VERSION)
        )
    card = _card(name, options.visible_device)
    # Not by the session's visible_device_list: TensorFlow 1.15 aborts on that where CUDA finds no card.
    os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=card)
    # TF32 would round the products of float32 to 10 bits of mantissa; CUDA's libraries read this when they load.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    config.gpu_options.per_process_gpu_memory_fraction = options.gpu_memory_fraction
    found = [device for device in device_lib.list_local_devices(config) if device.device_type == "GPU"]
    if not found:
        raise DeviceError(
            "device {!r} is GPU {}, and TensorFlow {} finds none: see what `nvidia-smi` shows. TensorFlow 1.15 as "
            "published drives GPUs of CUDA 10.0 only; newer ones need NVIDIA's 1.15 build.".format(
                name, card, tf.version.VERSION
            )
        )
    fields = dict(part.split(": ", 1) for part in found[0].physical_device_desc.split(", ") if ": " in part)
    record = {"name": fields.get("name"), "count": 1, "driver": _nvidia_driver(card), "threads": None}
    return Device(name, "gpu", "/device:GPU:0", config, record)


def _card(name, number):
    """The card's name for CUDA: its number as nvidia-smi counts, among those that a scheduler has left this process."""
    if not _LEFT_VISIBLE:
        return str(number)
    cards = _LEFT_VISIBLE.split(",")
    if number >= len(cards):
        raise DeviceError(
            "device {!r}: visible_device is {}, and CUDA_VISIBLE_DEVICES leaves {} card(s), {}, counted from 0.".format(
                name, number, len(cards), _LEFT_VISIBLE
            )
        )
    return cards[number].strip()


def _nvidia_driver(number):
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id={}".format(number)]
    try:
        found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return None
    return found.stdout.strip() or None
