"""Workers on NPUs, one a device, which exchange by HCCL through the adapter's own operations.

`hccl_ops.allreduce` is called here, not NPUDistributedOptimizer or its newer wrapper, which make the same operation of
each gradient: those average nothing where RANK_SIZE is not set, and it must not be where a chief connects the workers.
"""

import contextlib
import os

import tensorflow.compat.v1 as tf

from covpool import cluster
from covpool.devices import bridge
from covpool.devices.errors import DeviceError, LostWorkers
from covpool.devices.workers import Several

#: How `hccl_ops.allreduce` puts tensors together: gradients in a few large exchanges, each as soon as it is complete;
#: anything else goes by itself, or what the forward pass needs would wait for gradients that come after it.
GRADIENT, ALONE = 1, 0


class HcclWorkers(Several):
    """This process as one of the `count` workers of the run `name`.

    member: which one, a `cluster.Member`. device: the number of its chip; neighbours: see there.
    """

    def __init__(self, name, count, member):
        super().__init__()
        self._adapter = bridge.load(name)
        self.count = count
        self.rank, self.local_rank, self.local_count, self.device, self.neighbours = member

    def sum(self, tensor):
        return self._noted(tensor, bridge.allreduce(self._adapter, tensor, ALONE))

    def mean(self, tensor):
        return self.sum(tensor) / self.count

    def mean_gradient(self, gradient):
        exchanged = bridge.allreduce(self._adapter, gradient, GRADIENT)
        return self._noted(gradient, exchanged, of_gradient=True) / self.count

    def from_leader(self, tensor):
        # Everybody else adds nothing to the leader's. hccl_ops.broadcast wants the leader's number in HCCL's count,
        # which is not known here where a chief connects the workers. All have the same graph but for this constant.
        kind = tensor.dtype.base_dtype
        sent = tf.cast(tensor, tf.int32) if kind == tf.int64 else tensor
        return tf.cast(self.sum(sent * tf.constant(int(self.leads), sent.dtype)), kind)

    @contextlib.contextmanager
    def exchange(self):
        try:
            yield
        except tf.errors.OpError as error:
            if not any(word in str(error).lower() for word in ("hccl", "hcom")):
                raise
            raise LostWorkers(
                "the NPUs can't exchange: another worker has ended, can't be reached, or differs ({}); run again to go "
                "on from the last state.".format(str(error).split("\n")[0])
            ) from error


def open_hccl(name, count):
    """This process as the worker of `count` that its environment says; DeviceError where that connects no such one."""
    try:
        return HcclWorkers(name, count, cluster.own(count, os.environ))
    except cluster.ClusterError as error:
        raise DeviceError("device {!r}: {}.".format(name, error)) from None
