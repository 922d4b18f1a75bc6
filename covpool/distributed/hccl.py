"""Workers on NPUs, one per device. They exchange tensors by HCCL, through the operations of the NPU adapter.

This module calls `hccl_ops.allreduce` directly. The adapter's NPUDistributedOptimizer and its newer wrapper run the
same operation on each gradient, but they do not average if RANK_SIZE is not set. RANK_SIZE must not be set if a chief
connects the workers.
"""

import contextlib
import os
from typing import Callable, Iterator

import tensorflow.compat.v1 as tf

from covpool.distributed import hccl_environment
from covpool.distributed.errors import LostWorkers, WorkersError
from covpool.distributed.workers import Several

#: How `hccl_ops.allreduce` combines tensors. GRADIENT: several gradients go together in a few large exchanges, and each
#: exchange starts as soon as it is complete. ALONE: the tensor is exchanged separately. Otherwise a tensor that the
#: forward pass needs would wait for gradients that are computed later.
GRADIENT, ALONE = 1, 0


class HcclWorkers(Several):
    """This process as one of the workers that HCCL connects.

    Attributes:
        count: The number of workers on all hosts.
        rank: The number of this worker among all workers.
        local_rank: The number of this worker among the workers of this host.
        local_count: The number of workers on this host.
        device: The number of this worker's chip.
        neighbours: The chips of all workers of this host by rank; empty if they are not known.
    """

    def __init__(
        self, count: int, member: hccl_environment.Member, allreduce: Callable[[tf.Tensor, int], tf.Tensor]
    ) -> None:
        """Take the place of one worker.

        Args:
            count: The number of workers on all hosts.
            member: The place of this worker among them.
            allreduce: The adapter's operation that adds the tensors of all workers. Its arguments are the tensor and
                GRADIENT or ALONE.
        """
        super().__init__()
        self._allreduce = allreduce
        self.count = count
        self.rank, self.local_rank, self.local_count, self.device, self.neighbours = member

    def sum(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return the sum of the workers' tensors, as `Alone.sum` describes."""
        return self._noted(tensor, self._allreduce(tensor, ALONE))

    def mean(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return the mean of the workers' tensors, as `Alone.mean` describes."""
        return self.sum(tensor) / self.count

    def mean_gradient(self, gradient: tf.Tensor) -> tf.Tensor:
        """Return the mean of the workers' gradients, as `Alone.mean_gradient` describes."""
        exchanged = self._allreduce(gradient, GRADIENT)
        return self._noted(gradient, exchanged, of_gradient=True) / self.count

    def from_leader(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return worker 0's tensor, as `Alone.from_leader` describes."""
        # The leader adds its tensor and all other workers add zeros. hccl_ops.broadcast would need HCCL's own number
        # for the leader. That number is not known here if a chief connects the workers. The graphs of the workers
        # differ in this constant only.
        kind = tensor.dtype.base_dtype
        sent = tf.cast(tensor, tf.int32) if kind == tf.int64 else tensor
        return tf.cast(self.sum(sent * tf.constant(int(self.leads), sent.dtype)), kind)

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Enclose code that exchanges tensors, as `Alone.exchange` describes.

        Raises:
            LostWorkers: HCCL reports an error.
        """
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


def open_hccl(name: str, count: int, allreduce: Callable[[tf.Tensor, int], tf.Tensor]) -> HcclWorkers:
    """Return this process as the worker that its environment describes.

    Args:
        name: The name of the run in `device_options`, for messages.
        count: The number of workers of the run.
        allreduce: The adapter's operation; see `HcclWorkers`.

    Returns:
        The worker.

    Raises:
        WorkersError: The environment does not connect `count` workers, or this process is not one of them.
    """
    try:
        return HcclWorkers(count, hccl_environment.own(count, os.environ), allreduce)
    except hccl_environment.ClusterError as error:
        raise WorkersError(f"device {name!r}: {error}.") from None
