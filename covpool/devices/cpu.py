"""The CPU as a device."""

import os

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from covpool.devices import meter
from covpool.devices.device import Device
from covpool.devices.host import cpu_name
from covpool.distributed.workers import ALONE, Alone
from covpool.pipeline.cores import usable_cores

PLACE = "/device:CPU:0"


class Cpu(Device):
    """The CPU. Its first layer can process a few images at a time (`takes_parts`)."""

    takes_parts = True


def open_cpu(name: str = "cpu", threads: int = 0, workers: Alone = ALONE) -> Cpu:
    """Open the CPU as a device.

    Args:
        name: The name of the device in params.yaml.
        threads: The number of threads of one operation. With 0, it is the number of cores that this process may use,
            divided among the workers on this host.
        workers: The workers that train together.

    Returns:
        The device, with a session configuration that gives repeatable results.
    """
    # A TensorFlow build for GPUs reports a missing driver, which a run on the CPU does not need. A log level that the
    # user has set is kept. Important errors are raised as exceptions.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "2":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    threads = threads or usable_cores(workers.local_count)
    config = tf.ConfigProto(
        # One operation runs at a time, on all threads. Large operations use all cores, and sums keep their order.
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=1,
        device_count={"GPU": 0},
        allow_soft_placement=False,
    )
    # This optimisation merges additions into one sum, and the order of its terms depends on when memory is released.
    config.graph_options.rewrite_options.arithmetic_optimization = rewriter_config_pb2.RewriterConfig.OFF
    # This optimisation keeps the initial zeros of Adam's moments, which are as large as all weights, until the session
    # is closed.
    config.graph_options.rewrite_options.constant_folding = rewriter_config_pb2.RewriterConfig.OFF
    record = {"name": cpu_name(), "driver": None, "threads": threads}
    # Workers on one host share its processors, so only one of them measures the energy.
    gauge = meter.RaplGauge() if workers.local_rank == 0 else None
    return Cpu(name, "cpu", PLACE, config, record, workers, gauge)
