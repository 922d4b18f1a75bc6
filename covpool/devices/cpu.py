"""The processor as a device."""

import os

import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from covpool.devices import meter
from covpool.devices.device import Device
from covpool.devices.host import cpu_name
from covpool.distributed.workers import ALONE
from covpool.pipeline.cores import usable_cores

PLACE = "/device:CPU:0"


class Cpu(Device):
    takes_parts = True


def open_cpu(name="cpu", threads=0, workers=ALONE):
    """The processor. threads: of an operation; 0: as many as this process may use cores, shared by the workers here."""
    # A build for GPUs complains of a missing driver, of which a run on the processor has no use. What was asked for by
    # hand stays; errors that matter arrive as exceptions.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "2":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    threads = threads or usable_cores(workers.local_count)
    config = tf.ConfigProto(
        # One operation at a time, on all threads: the big ones fill the cores, and sums keep their order.
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=1,
        device_count={"GPU": 0},
        allow_soft_placement=False,
    )
    # It would gather additions into one of many terms, whose order is that in which memory becomes free.
    config.graph_options.rewrite_options.arithmetic_optimization = rewriter_config_pb2.RewriterConfig.OFF
    # It would keep the zeros that Adam's moments begin with, as large as all weights, for as long as the session lives.
    config.graph_options.rewrite_options.constant_folding = rewriter_config_pb2.RewriterConfig.OFF
    record = {"name": cpu_name(), "driver": None, "threads": threads}
    # Workers of one host share its processors, whose energy is counted once.
    gauge = meter.RaplGauge() if workers.local_rank == 0 else None
    return Cpu(name, "cpu", PLACE, config, record, workers, gauge)
