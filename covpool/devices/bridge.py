"""An interface to npu_bridge, Ascend's adapter for TensorFlow 1.15, that hides the differences of its versions.

This is the only module that imports npu_bridge. The import changes TensorFlow: newer versions run every session of the
process on the NPU. Therefore npu_bridge is imported only when an NPU is opened.
"""

import collections
import importlib
import importlib.util
import sys
from typing import Callable, Iterable

import tensorflow.compat.v1 as tf

from covpool.config import npu_keys
from covpool.devices.errors import DeviceError

#: A dynamic loss scale doubles after this number of steps without an overflow.
GOOD_STEPS_TO_DOUBLE = 1000
#: A dynamic loss scale halves after this number of consecutive overflows.
OVERFLOWS_TO_HALVE = 2

#: An imported npu_bridge. generation: `npu_keys.OLD` or `npu_keys.NEW`. version: the package's version, or None if
#: unknown. npu_init: the module npu_bridge.npu_init.
Bridge = collections.namedtuple("Bridge", ["generation", "version", "npu_init"])


def is_installed() -> bool:
    """Check whether this Python has npu_bridge, without importing it.

    Returns:
        True if npu_bridge is installed.
    """
    return importlib.util.find_spec("npu_bridge") is not None


def load(name: str) -> Bridge:
    """Import npu_bridge.

    Args:
        name: The name of the device in params.yaml, for error messages.

    Returns:
        The Bridge.

    Raises:
        DeviceError: This Python has no npu_bridge, or the import fails.
    """
    if not is_installed():
        raise DeviceError(
            f"device {name!r} is an NPU, but this Python ({sys.executable}) has no npu_bridge: set "
            f"device_options.{name}.python or COVPOOL_TF_PYTHON to a Python that has it."
        )
    try:
        npu_init = importlib.import_module("npu_bridge.npu_init")
        version = getattr(importlib.import_module("npu_bridge"), "__version__", None)
    # A missing or incompatible library of CANN can raise any type of exception.
    except Exception as error:
        raise DeviceError(
            f"device {name!r}: npu_bridge can't be imported ({type(error).__name__}: {error}). Check that CANN is "
            "installed, and source its set_env.sh."
        ) from error
    # In newer versions, this wrapper for several devices replaces the class NPUDistributedOptimizer.
    newer = hasattr(npu_init, "npu_distributed_optimizer_wrapper")
    return Bridge(npu_keys.NEW if newer else npu_keys.OLD, version, npu_init)


def dropout(bridge: Bridge, keep_probability: float) -> Callable[[tf.Tensor, int], tf.Tensor]:
    """Return the NPU's implementation of dropout.

    Args:
        bridge: The imported npu_bridge.
        keep_probability: The probability that an element is kept, i.e. 1 - `rate`.

    Returns:
        A function of a tensor and a seed.
    """

    def drop(inputs, seed):
        return bridge.npu_init.npu_ops.dropout(inputs, keep_probability, seed=seed)

    return drop


def allreduce(bridge: Bridge, tensor: tf.Tensor, fusion: int) -> tf.Tensor:
    """Sum a tensor over all workers.

    Args:
        bridge: The imported npu_bridge.
        tensor: This worker's tensor.
        fusion: How HCCL merges exchanges, see `covpool.distributed.hccl`.

    Returns:
        The sum, with the shape and dtype of `tensor`.
    """
    return bridge.npu_init.hccl_ops.allreduce(tensor, "sum", fusion=fusion)


def scale_loss(
    bridge: Bridge, optimizer: tf.train.Optimizer, scaling: str, scale: float, several: bool
) -> tf.train.Optimizer:
    """Wrap an optimiser in NPULossScaleOptimizer.

    Args:
        bridge: The imported npu_bridge.
        optimizer: The optimiser of the run.
        scaling: "dynamic" or "fixed".
        scale: The initial loss scale for "dynamic", or the constant one for "fixed".
        several: Whether there are several workers. If one of them overflows, all of them skip the step.

    Returns:
        The NPULossScaleOptimizer.
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


def keep_dtype(bridge: Bridge, operations: Iterable[tf.Operation]) -> None:
    """Mark operations so that the NPU computes them in their own dtype with every precision_mode.

    `keep_dtype_scope` sets the same attribute on the operations that are created inside the scope. It does not mark the
    operations of their gradients. Therefore this function marks existing operations.

    Args:
        bridge: The imported npu_bridge.
        operations: The operations to mark.
    """
    # The attribute is a bool in older versions and an integer in newer ones.
    with tf.Graph().as_default(), bridge.npu_init.npu_scope.keep_dtype_scope():
        attributes = dict(tf.no_op().node_def.attr)
    for operation in operations:
        for key, value in attributes.items():
            operation._set_attr(key, value)


def loop(bridge: Bridge, session: tf.Session, step: tf.Operation, steps: int) -> tf.Operation:
    """Return an op that runs several training steps on the NPU.

    Args:
        bridge: The imported npu_bridge.
        session: The session of the training.
        step: The op that runs one training step.
        steps: The number of steps.

    Returns:
        The op that runs `steps` steps.
    """
    return bridge.npu_init.util.set_iteration_per_loop(session, step, steps)
