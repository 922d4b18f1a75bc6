"""Workers on NPUs, one a device, which exchange by HCCL through the adapter's own operations.

`hccl_ops.allreduce` is called here, not NPUDistributedOptimizer or its newer wrapper, which make the same operation of
each gradient: those average nothing where RANK_SIZE is not set, and it must not be where a chief connects the workers.
"""

import contextlib
import os

import tensorflow.compat.v1 as tf

from covpool.distributed import hccl_environment
from covpool.distributed.errors import LostWorkers, WorkersError
from covpool.distributed.workers import Several

#: How `hccl_ops.allreduce` puts tensors together: gradients in a few large exchanges, each as soon as it is complete;
#: anything else goes by itself, or what the forward pass needs would wait for gradients that come after it.
GRADIENT, ALONE = 1, 0


class HcclWorkers(Several):
    """This process as one of the `count` workers of the run `name`.

    member: which one, a `hccl_environment.Member`. device: the number of its chip; neighbours: see there. allreduce:
    the adapter's, of a tensor and how to put it together with others (GRADIENT, ALONE).
    """

    def __init__(self, count, member, allreduce):
        super().__init__()
        self._allreduce = allreduce
        self.count = count
        self.rank, self.local_rank, self.local_count, self.device, self.neighbours = member

    def sum(self, tensor):
        return self._noted(tensor, self._allreduce(tensor, ALONE))

    def mean(self, tensor):
        return self.sum(tensor) / self.count

    def mean_gradient(self, gradient):
        exchanged = self._allreduce(gradient, GRADIENT)
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
            first_line = str(error).split("\n")[0]
            raise LostWorkers(
                "the NPUs can't exchange data: another worker has ended, can't be reached, or has a different graph "
                f"({first_line}). Run the same command again to resume from the last state."
            ) from error


def open_hccl(name, count, allreduce):
    """This process as the worker of `count` that its environment says; WorkersError where that connects no such one."""
    try:
        return HcclWorkers(count, hccl_environment.own(count, os.environ), allreduce)
    except hccl_environment.ClusterError as error:
        raise WorkersError(f"device {name!r}: {error}.") from None
