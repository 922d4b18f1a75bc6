"""Several workers that train one network together, and the tensors that they exchange in a step.

Each worker is a process with its own device. All workers hold the same weights. Each computes the gradients of its part
of the global batch, and all update the weights with the mean of these gradients. Worker 0 leads: only worker 0 reads
and writes states and outputs, and only worker 0 validates.

    workers = open_workers("cpu", params.device_options["cpu"])
    gradient = workers.mean(gradient)

`covpool.distributed.launcher` starts the processes. On CPUs and GPUs they exchange through Horovod (A. Sergeev, M. Del
Balso: Fast and Easy Distributed Deep Learning in TensorFlow, arXiv 1802.05799), on NPUs through HCCL (`hccl`).
"""

import collections
import contextlib
import importlib
import os
from typing import Iterator, Optional

import tensorflow.compat.v1 as tf

from covpool.distributed.errors import LostWorkers, WorkersError

#: One exchange in a graph. operation: the operation that returns the result. bytes: the number of bytes that each
#: worker sends. of_gradient: whether the tensor is a gradient, for which only the optimiser waits.
Exchange = collections.namedtuple("Exchange", ["operation", "bytes", "of_gradient"])


class Alone:
    """A single worker. It is the leader, and its exchanges return their tensors unchanged.

    Attributes:
        count: The number of workers.
        rank: The number of this worker, from 0.
        local_count: The number of workers on this host.
        local_rank: The number of this worker among the workers of this host, from 0.
        exchanges: The exchanges of the graph so far, each an `Exchange`.
    """

    count = local_count = 1
    rank = local_rank = 0
    exchanges = ()

    @property
    def leads(self) -> bool:
        """Whether this worker is worker 0."""
        return self.rank == 0

    def mean(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return the mean of the workers' tensors.

        Args:
            tensor: This worker's tensor. All workers pass tensors of the same name, shape and dtype.

        Returns:
            The mean, with the same shape and dtype. All workers get the same bytes.
        """
        return tensor

    def mean_gradient(self, gradient: tf.Tensor) -> tf.Tensor:
        """Return the mean of the workers' gradients.

        Args:
            gradient: This worker's gradient. Only the optimiser uses the result, so its exchange may be delayed.

        Returns:
            The mean, with the same shape and dtype.
        """
        return self.mean(gradient)

    def sum(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return the sum of the workers' tensors.

        Args:
            tensor: This worker's tensor. All workers pass tensors of the same name, shape and dtype.

        Returns:
            The sum, with the same shape and dtype.
        """
        return tensor

    def from_leader(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return worker 0's tensor.

        Args:
            tensor: This worker's tensor. All workers pass tensors of the same name, shape and dtype.

        Returns:
            The tensor that worker 0 passed.
        """
        return tensor

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Enclose code that exchanges tensors.

        Raises:
            LostWorkers: Another worker has ended or can't be reached.
        """
        yield


ALONE = Alone()


class Several(Alone):
    """The common part of workers that exchange tensors: they record each exchange in `exchanges`."""

    def __init__(self) -> None:
        """Start with an empty list of exchanges."""
        self.exchanges = []

    def _noted(self, tensor: tf.Tensor, result: tf.Tensor, of_gradient: bool = False) -> tf.Tensor:
        """Record the exchange of `tensor` and return its result."""
        size = tensor.shape.num_elements() * tensor.dtype.size
        self.exchanges.append(Exchange(result.op, size, of_gradient))
        return result


class HorovodWorkers(Several):
    """This process as one of the workers that Horovod connects.

    Horovod exchanges over Gloo. On GPUs it uses NCCL if it was built with NCCL.
    """

    def __init__(self, count: Optional[int] = None) -> None:
        """Initialise Horovod.

        Args:
            count: The number of workers of a graph that is inspected but not run; this process is then worker 0.
                None takes the number and the rank with which Horovod was started.

        Raises:
            LostWorkers: The workers can't find each other.
        """
        super().__init__()
        # Fusion would combine the tensors that are ready at the same moment. The order of the additions would then
        # depend on timing, and runs with more than two workers would not be bitwise reproducible.
        os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", "0")
        # While worker 0 validates, the other workers wait for it without a time limit. A lost process is detected by
        # its closed connection.
        os.environ.setdefault("HOROVOD_STALL_CHECK_DISABLE", "1")
        # Horovod would log the source line at which a connection broke, in addition to the error message.
        os.environ.setdefault("HOROVOD_LOG_LEVEL", "fatal")
        import horovod.tensorflow as horovod

        with _told("the workers can't find each other"):
            horovod.init()
        self._horovod = horovod
        if count is None:
            self.count, self.rank = horovod.size(), horovod.rank()
            self.local_count, self.local_rank = horovod.local_size(), horovod.local_rank()
        else:
            self.count = self.local_count = count

    def mean(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return the mean of the workers' tensors, as `Alone.mean` describes."""
        return self._noted(tensor, self._horovod.allreduce(tensor, op=self._horovod.Average))

    def mean_gradient(self, gradient: tf.Tensor) -> tf.Tensor:
        """Return the mean of the workers' gradients, as `Alone.mean_gradient` describes."""
        return self._noted(gradient, self._horovod.allreduce(gradient, op=self._horovod.Average), of_gradient=True)

    def sum(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return the sum of the workers' tensors, as `Alone.sum` describes."""
        return self._noted(tensor, self._horovod.allreduce(tensor, op=self._horovod.Sum))

    def from_leader(self, tensor: tf.Tensor) -> tf.Tensor:
        """Return worker 0's tensor, as `Alone.from_leader` describes."""
        return self._noted(tensor, self._horovod.broadcast(tensor, root_rank=0))

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Enclose code that exchanges tensors, as `Alone.exchange` describes.

        Raises:
            LostWorkers: Horovod reports an error.
        """
        with _told("another worker has ended or can no longer be reached"):
            yield


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Raise errors of Horovod's exchange as LostWorkers with the message `what`."""
    from horovod.common.exceptions import HorovodInternalError

    try:
        yield
    except (HorovodInternalError, tf.errors.OpError) as error:
        operation = getattr(error, "op", None)
        if isinstance(error, tf.errors.OpError) and (operation is None or not operation.type.startswith("Horovod")):
            raise
        raise LostWorkers(f"{what}. Run the same command again to resume from the last state.") from error


def has_horovod() -> bool:
    """Return whether this Python has a Horovod that was built for its TensorFlow."""
    try:
        importlib.import_module("horovod.tensorflow")
    except ImportError:
        return False
    return True


def open_horovod(name: str, count: int) -> HorovodWorkers:
    """Return this process as one of the workers of a run.

    Args:
        name: The name of the run in `device_options`, for messages.
        count: The number of workers of the run.

    Returns:
        The worker.

    Raises:
        WorkersError: Horovod was started with another number of workers.
        LostWorkers: The workers can't find each other.
    """
    started = int(os.environ.get("HOROVOD_SIZE", 1))
    if started != count:
        raise WorkersError(
            f"device {name!r} has workers: {count}, but this process was started as one of {started}: start all of "
            f"them with `stages/tf stages/train.py --device {name}`, or start {count} with horovodrun."
        )
    return HorovodWorkers()
