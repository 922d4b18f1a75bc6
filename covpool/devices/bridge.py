"""The one place that imports npu_bridge, Ascend's TensorFlow 1.15 adapter, and knows how its versions differ.

Importing it changes TensorFlow (newer versions give every session of the process to the NPU), so it is imported when an
NPU is opened, and not before.
"""

import collections
import importlib
import importlib.util
import sys

import tensorflow.compat.v1 as tf

from covpool.config import npu_keys
from covpool.devices.errors import DeviceError

#: After so many steps without an overflow a dynamic loss scale doubles; after two overflows in a row it halves.
GOOD_STEPS_TO_DOUBLE = 1000
OVERFLOWS_TO_HALVE = 2

#: generation: `npu_keys.OLD` or `NEW`; version: as the package tells it, or None; the rest as `npu_init` has it.
Bridge = collections.namedtuple("Bridge", ["generation", "version", "npu_init"])


def is_installed():
    return importlib.util.find_spec("npu_bridge") is not None


def load(name):
    """The Bridge for the run `name`; DeviceError where this Python has no npu_bridge or can't import it."""
    if not is_installed():
        raise DeviceError(
            f"device {name!r} is an NPU, but this Python ({sys.executable}) has no npu_bridge: set "
            f"device_options.{name}.python or COVPOOL_TF_PYTHON to a Python that has it."
        )
    try:
        npu_init = importlib.import_module("npu_bridge.npu_init")
        version = getattr(importlib.import_module("npu_bridge"), "__version__", None)
    # Whatever a library of CANN that is missing or does not fit makes of it.
    except Exception as error:
        raise DeviceError(
            f"device {name!r}: npu_bridge can't be imported ({type(error).__name__}: {error}). Check that CANN is "
            "installed, and source its set_env.sh."
        ) from error
    # The wrapper for several devices came with the newer ones, in place of the class NPUDistributedOptimizer.
    newer = hasattr(npu_init, "npu_distributed_optimizer_wrapper")
    return Bridge(npu_keys.NEW if newer else npu_keys.OLD, version, npu_init)


def dropout(bridge, keep_probability):
    """The device's own dropout, as a function of a tensor and a seed. It takes the share that is kept, not `rate`."""

    def drop(inputs, seed):
        return bridge.npu_init.npu_ops.dropout(inputs, keep_probability, seed=seed)

    return drop


def allreduce(bridge, tensor, fusion):
    """The sum of a tensor over all workers; fusion: see `hccl`."""
    return bridge.npu_init.hccl_ops.allreduce(tensor, "sum", fusion=fusion)


def scale_loss(bridge, optimizer, scaling, scale, several):
    """NPULossScaleOptimizer around an optimiser; scaling: `dynamic` or `fixed`; scale: the first, or the only one.

    several: workers skip a step together when one of them overflows.
    """
    npu_init = bridge.npu_init
    if scaling == "dynamic":
        manager = npu_init.ExponentialUpdateLossScaleManager(
            init_loss_scale=scale,
            incr_every_n_steps=GOOD_STEPS_TO_DOUBLE,
            decr_every_n_nan_or_inf=OVERFLOWS_TO_HALVE,
            incr_ratio=2,
            decr_ratio=0.5,
        )
    else:
        manager = npu_init.FixedLossScaleManager(loss_scale=scale)
    return npu_init.NPULossScaleOptimizer(optimizer, manager, is_distributed=several)


def keep_dtype(bridge, operations):
    """Mark operations as `keep_dtype_scope` does: whatever the precision_mode, they are computed as they are typed.

    A scope reaches the operations that are made in it, but not those of their gradients, hence the marking afterwards.
    """
    # The attribute is a bool in older versions and a number in newer ones.
    with tf.Graph().as_default(), bridge.npu_init.npu_scope.keep_dtype_scope():
        attributes = dict(tf.no_op().node_def.attr)
    for operation in operations:
        for key, value in attributes.items():
            operation._set_attr(key, value)


def loop(bridge, session, step, steps):
    """The op that makes `steps` steps on the device, from the one that makes one."""
    return bridge.npu_init.util.set_iteration_per_loop(session, step, steps)
