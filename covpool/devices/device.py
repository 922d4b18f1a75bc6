"""What every kind of device has in common: the session on it, its record, and what a training step asks of it."""

import tensorflow.compat.v1 as tf

from covpool.distributed.workers import ALONE

# Deprecations inside TensorFlow itself are nothing that a user could act on.
tf.logging.set_verbosity(tf.logging.ERROR)


class Device:
    """A device that was found.

    name: the run's name in params.yaml; kind: cpu, gpu or npu; place: where TensorFlow puts its operations; config:
    the session's ConfigProto; record: what a run's record says of it (`name`, `count`, `driver`, `threads`, and what
    else of its options a result depends on; `count` devices train together); workers: that do so, one a device; gauge:
    of what it draws, see `meter`, or None where another worker measures for this one.

    The methods are what a training step does in another way on some devices. Here they change nothing.
    """

    #: Steps that one run of the training op makes.
    steps_per_run = 1
    #: Whether an operation inside of a step can tell the time. Not on a device that runs the step as a whole.
    tells_time = True
    #: Whether a step whose gradients overflowed leaves the weights as they were, instead of being an error.
    skips_overflow = False
    #: Whether the first layer goes through a few pictures at a time, see `networks.patches`. That needs convolutions
    #: and matrix products that do not reduce float32, as TF32 does, and was measured on processors only.
    takes_parts = False

    def __init__(self, name, kind, place, config, record, workers=ALONE, gauge=None):
        self.name = name
        self.kind = kind
        self.place = place
        self.config = config
        self.record = dict(record, count=workers.count)
        self.workers = workers
        self.gauge = gauge

    def session(self, graph):
        return tf.Session(graph=graph, config=self.config)

    def dropout(self, keep_probability):
        """The device's own dropout as a function of a tensor and a seed; None where it has none."""
        return None

    def scale_loss(self, optimizer):
        """An optimiser around `optimizer` that keeps small gradients from underflow; `optimizer` itself without."""
        return optimizer

    def keep_float32(self, operations):
        """Mark operations that must not be computed in half precision."""

    def step_op(self, session, step):
        """The op that makes `steps_per_run` steps, from the one that makes one. The graph must be open to changes."""
        return step
