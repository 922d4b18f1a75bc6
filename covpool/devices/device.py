"""The base class of all devices: the session, the record, and the hooks of a training step."""

from typing import Any, Callable, Dict, Iterable, Optional

import tensorflow.compat.v1 as tf

from covpool.distributed.workers import ALONE, Alone

# Users can do nothing about deprecation warnings from inside TensorFlow.
tf.logging.set_verbosity(tf.logging.ERROR)


class Device:
    """A device that is ready for use.

    A training step calls the methods. Subclasses override them if a device needs a different implementation. The
    methods of this class change nothing.

    Attributes:
        name: The name of the device in params.yaml.
        kind: "cpu", "gpu" or "npu".
        place: The TensorFlow device on which operations are placed.
        config: The ConfigProto of the session.
        record: The entry in the run's record: `name`, `driver`, `threads`, `count` (the number of devices that train
            together), and all other options that the results depend on.
        workers: The workers that train together, one per device.
        gauge: The gauge of energy and memory (see `meter`), or None if another worker measures for this one.
    """

    #: The number of training steps in one run of the training op.
    steps_per_run = 1
    #: Whether an operation inside a step can read the clock. This is False on a device that runs the step as a whole.
    tells_time = True
    #: Whether a step with overflowed gradients keeps the weights unchanged. If False, the overflow is an error.
    skips_overflow = False
    #: Whether the first layer processes a few images at a time, see `networks.patches`. This needs convolutions and
    #: matrix products in full float32 precision, not in TF32. It was measured on CPUs only.
    takes_parts = False

    def __init__(
        self,
        name: str,
        kind: str,
        place: str,
        config: tf.ConfigProto,
        record: Dict[str, Any],
        workers: Alone = ALONE,
        gauge: Any = None,
    ) -> None:
        """Set the attributes of the class.

        Args:
            name: The name of the device in params.yaml.
            kind: "cpu", "gpu" or "npu".
            place: The TensorFlow device on which operations are placed.
            config: The ConfigProto of the session.
            record: The entry in the run's record, without `count`.
            workers: The workers that train together.
            gauge: The gauge of energy and memory, or None.
        """
        self.name = name
        self.kind = kind
        self.place = place
        self.config = config
        self.record = dict(record, count=workers.count)
        self.workers = workers
        self.gauge = gauge

    def session(self, graph: tf.Graph) -> tf.Session:
        """Open a session on the device.

        Args:
            graph: The graph that the session runs.

        Returns:
            The session. The caller closes it.
        """
        return tf.Session(graph=graph, config=self.config)

    def dropout(self, keep_probability: float) -> Optional[Callable[[tf.Tensor, int], tf.Tensor]]:
        """Return the device's implementation of dropout.

        Args:
            keep_probability: The probability that an element is kept.

        Returns:
            A function of a tensor and a seed, or None if the device uses the implementation of TensorFlow.
        """
        return None

    def scale_loss(self, optimizer: tf.train.Optimizer) -> tf.train.Optimizer:
        """Add loss scaling, which prevents the underflow of small gradients, if the device uses it.

        Args:
            optimizer: The optimiser of the run.

        Returns:
            An optimiser that wraps `optimizer`, or `optimizer` itself if the device does not scale the loss.
        """
        return optimizer

    def keep_float32(self, operations: Iterable[tf.Operation]) -> None:
        """Mark operations that must not be computed in half precision.

        Args:
            operations: The operations to mark.
        """

    def step_op(self, session: tf.Session, step: tf.Operation) -> tf.Operation:
        """Return the op that runs `steps_per_run` training steps.

        Args:
            session: The session of the training. Its graph must not be finalized.
            step: The op that runs one training step.

        Returns:
            The op that runs `steps_per_run` steps.
        """
        return step
