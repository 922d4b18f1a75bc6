"""Several workers that train one network together, and what they exchange in a step.

Each worker is a process with a device of its own. All hold the same weights, each computes the gradients of its part of
the global batch, and all take the step that the mean of these gradients says. Worker 0 leads: it alone reads and writes
states and outputs and validates.

    workers = open_workers("cpu", params.device_options["cpu"])
    gradient = workers.mean(gradient)

`covpool.distributed.launcher` starts the processes. On CPUs and GPUs they exchange through Horovod (A. Sergeev, M. Del
Balso: Fast and Easy Distributed Deep Learning in TensorFlow, arXiv 1802.05799), on NPUs through HCCL (`hccl`).
"""

import collections
import contextlib
import importlib
import os

import tensorflow.compat.v1 as tf

from covpool.distributed.errors import LostWorkers, WorkersError

#: One exchange of a graph: the operation that gives its result, the bytes that each worker sends, and whether they are
#: a gradient that nothing but the optimiser waits for.
Exchange = collections.namedtuple("Exchange", ["operation", "bytes", "of_gradient"])


class Alone:
    """One worker, which is the leader and has nobody to exchange with.

    count, rank: how many workers there are, and which one this is; local_count, local_rank: the same on this host.
    """

    count = local_count = 1
    rank = local_rank = 0
    #: What was built to be exchanged, `Exchange`s.
    exchanges = ()

    @property
    def leads(self):
        return self.rank == 0

    def mean(self, tensor):
        """The mean of the workers' tensors of this name; all get the same bytes."""
        return tensor

    def mean_gradient(self, gradient):
        """The mean of a gradient that nothing but the optimiser waits for."""
        return self.mean(gradient)

    def sum(self, tensor):
        return tensor

    def from_leader(self, tensor):
        """Worker 0's tensor."""
        return tensor

    @contextlib.contextmanager
    def exchange(self):
        """Around what exchanges: LostWorkers where another worker has ended or can't be reached."""
        yield


ALONE = Alone()


class Several(Alone):
    """What workers that exchange have in common: they keep a list of it."""

    def __init__(self):
        self.exchanges = []

    def _noted(self, tensor, result, of_gradient=False):
        size = tensor.shape.num_elements() * tensor.dtype.size
        self.exchanges.append(Exchange(result.op, size, of_gradient))
        return result


class HorovodWorkers(Several):
    """This process as one of the workers that Horovod knows of, over Gloo or, on GPUs, NCCL where it was built in.

    count: of how many it is to be worker 0 in a graph that is only looked at; None: as Horovod was started.
    """

    def __init__(self, count=None):
        super().__init__()
        # Without the fusion of tensors that happen to be ready at once, whose order of adding depends on the moment:
        # more than two workers would not repeat the last digit.
        os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", "0")
        # While worker 0 validates, the others wait for it, however long that takes. Processes that are gone are noticed
        # by their connections.
        os.environ.setdefault("HOROVOD_STALL_CHECK_DISABLE", "1")
        # It would print where in its source a connection broke, beside the error that is told in a sentence.
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

    def mean(self, tensor):
        return self._noted(tensor, self._horovod.allreduce(tensor, op=self._horovod.Average))

    def mean_gradient(self, gradient):
        return self._noted(gradient, self._horovod.allreduce(gradient, op=self._horovod.Average), of_gradient=True)

    def sum(self, tensor):
        return self._noted(tensor, self._horovod.allreduce(tensor, op=self._horovod.Sum))

    def from_leader(self, tensor):
        return self._noted(tensor, self._horovod.broadcast(tensor, root_rank=0))

    @contextlib.contextmanager
    def exchange(self):
        with _told("another worker has ended or can no longer be reached"):
            yield


@contextlib.contextmanager
def _told(what):
    """Errors of the exchange as LostWorkers."""
    from horovod.common.exceptions import HorovodInternalError

    try:
        yield
    except (HorovodInternalError, tf.errors.OpError) as error:
        operation = getattr(error, "op", None)
        if isinstance(error, tf.errors.OpError) and (operation is None or not operation.type.startswith("Horovod")):
            raise
        raise LostWorkers(f"{what}. Run the same command again to resume from the last state.") from error


def has_horovod():
    """Whether this Python has a Horovod that was built for its TensorFlow."""
    try:
        importlib.import_module("horovod.tensorflow")
    except ImportError:
        return False
    return True


def open_horovod(name, count):
    """This process as one of `count` workers; WorkersError where Horovod's environment says otherwise."""
    started = int(os.environ.get("HOROVOD_SIZE", 1))
    if started != count:
        raise WorkersError(
            f"device {name!r} has workers: {count}, but this process was started as one of {started}: start all of "
            f"them with `stages/tf stages/train.py --device {name}`, or start {count} with horovodrun."
        )
    return HorovodWorkers()
