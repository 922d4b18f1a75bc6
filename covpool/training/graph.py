"""The training graph: one op that does a whole step, and the network that scores, with averaged weights."""

import collections
import contextlib
import functools
from typing import Callable

import numpy as np
import tensorflow.compat.v1 as tf

from covpool import networks, spd
from covpool.devices import meter
from covpool.networks import checkpoints
from covpool.pipeline.cores import usable_cores
from covpool.training import input_pipeline, losses, run_key
from covpool.training.plan import run_plan

#: What a step reports, in the order in which it is fetched.
STEP_VALUES = ("loss", "cross_entropy", "l2_loss", "center_loss", "accuracy", "clipped", "condition", "waiting_seconds")

#: These, the norms of the gradients, and whether one of several workers asks that all stop after this step.
Step = collections.namedtuple("Step", STEP_VALUES + ("norms", "stop"))


class NoDecomposition(ArithmeticError):
    """Matrices that are not finite have no eigenvalues: a step or a score could not be computed."""


@contextlib.contextmanager
def _decompositions():
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if error.op is None or error.op.type != "SelfAdjointEigV2":
            raise
        raise NoDecomposition() from error


class TrainingGraph:
    """Everything that a run of training needs from TensorFlow, built once.

    Every shape is static, also in scoring: an NPU needs that.

    Args:
        params: a `config.Params`.
        device: a `devices.Device`.
        faces: the training split.
        start: gives the first step of the input pipeline; it is called when the session begins.
        stop: the step at which the input pipeline ends.
    """

    def __init__(self, params, device, faces: input_pipeline.Faces, start: Callable[[], int], stop: int):
        self.params = params
        self.device = device
        self.workers = device.workers
        #: Values that this graph can't measure; they are 0 in a `Step`.
        self.unmeasured = ()
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(params.train.seed)
            self.learning_rate = tf.placeholder(tf.float32, [], "learning_rate")
            self.global_step = tf.get_variable(
                "global_step",
                [],
                tf.int64,
                initializer=tf.zeros_initializer(),
                trainable=False,
                use_resource=True,
                collections=[tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.GLOBAL_STEP],
            )
            images, labels, waiting = self._next_batch(faces, start, stop)
            # What needs no pictures, such as the decay of the weights, comes after them too: it is not waiting time.
            with tf.control_dependencies([waiting]):
                self._build_step(images, labels, waiting, self._class_weights(faces.labels))
            self._build_watch()
            self._build_scoring()
            self._build_ends()
            device.keep_float32(spd.operations(self.graph))

    def _class_weights(self, labels):
        if self.params.train.class_weights == "balanced":
            return losses.balanced_class_weights(labels, len(self.params.dataset.classes))
        return None

    def _next_batch(self, faces, start, stop):
        train = self.params.train
        # The input pipeline runs on the host, whatever the device.
        with tf.device("/cpu:0"):
            plan = run_plan(self.params, len(faces.images), self.workers.count, self.workers.rank)
            # More threads than cores gain nothing, and each keeps the memory of a batch.
            threads = min(train.nrof_preprocess_threads, usable_cores(self.workers.local_count))
            dataset = input_pipeline.batches(faces, plan, start, stop, self.params.normalise.size, threads)
            iterator = tf.data.make_initializable_iterator(dataset)
            self.start_input = iterator.initializer
            if not self.device.tells_time:
                self.unmeasured += ("waiting_seconds",)
                return iterator.get_next() + (tf.zeros([]),)
            before = tf.timestamp()
            with tf.control_dependencies([before]):
                images, labels = iterator.get_next()
            with tf.control_dependencies([images]):
                return images, labels, tf.timestamp() - before

    def _build_step(self, images, labels, waiting, class_weights):
        params = self.params
        layers = networks.Layers(
            training=True,
            batch_norm_decay=params.network.batch_norm_decay,
            dropout=self._dropout(params.train.keep_probability),
            seed=params.train.seed,
            over_workers=self.workers.mean,
            in_parts=self.device.takes_parts,
        )
        classes = len(params.dataset.classes)
        inputs = layers.outputs["images"] = input_pipeline.normalise(images, params.network.normalisation)
        endpoints = networks.build(inputs, layers, params.network, params.spd, classes)
        terms = losses.losses(endpoints, labels, layers.kernels, classes, params.train, class_weights, self.workers)
        self.layer_outputs = layers.outputs
        self.variables = tf.trainable_variables()
        self.bimap_weights = [each for each in self.variables if each.op.name.endswith(networks.BIMAP_WEIGHT)]
        update, norms = self._update(terms, layers.kernels)
        self.step = tf.group(update, *(layers.updates + terms.updates))
        told = [
            terms.total,
            terms.cross_entropy,
            terms.l2,
            terms.center,
            terms.accuracy,
            *self._health(endpoints),
            waiting,
        ]
        *told, stop = self._over_workers(told)
        self.step_values = Step(*told, norms, stop)

    def _over_workers(self, values):
        """Means over the workers, in one exchange, and whether one of them asks to stop, so that all stop together."""
        if self.workers.count == 1:
            return [*values, tf.zeros([])]
        self._stop = tf.placeholder(tf.float32, [], "stop")
        values = tf.stack([tf.cast(each, tf.float32) for each in [*values, self._stop]])
        return tf.unstack(self.workers.mean(values))

    def _update(self, terms, kernels):
        """The op that moves weights, step count and averages, in this order; and the norms of the gradients."""
        train = self.params.train
        optimizer = make_optimizer(train, self.learning_rate)
        scaled = self.device.scale_loss(optimizer)
        # Gradients of one tensor are added two at a time. More at once are added in the order in which memory becomes
        # free, which differs from run to run, and changes the last digit.
        tree = tf.AggregationMethod.EXPERIMENTAL_TREE
        loss = terms.cross_entropy + terms.center
        gradients = scaled.compute_gradients(loss, self.variables, aggregation_method=tree)
        # Averaged before everything that is not linear in them, such as the projection onto the tangent space.
        gradients = [(self.workers.mean_gradient(gradient), each) for gradient, each in gradients]
        if train.weight_decay:
            decayed = {each.op.name for each in kernels}
            gradients = [
                (losses.with_decay(gradient, each, train.weight_decay, terms.l2), each)
                if each.op.name in decayed
                else (gradient, each)
                for gradient, each in gradients
            ]
        update = spd.apply_on_stiefel(
            scaled, gradients, self.bimap_weights, self.global_step, retraction=self._retraction, slot_owner=optimizer
        )
        self._average = None
        if train.moving_average_decay:
            # Ramped up: min(decay, (1 + step) / (10 + step)). Otherwise a short run's average is mostly initial
            # weights.
            self._average = tf.train.ExponentialMovingAverage(train.moving_average_decay, self.global_step)
            with tf.control_dependencies([update]):
                update = self._average.apply(self.variables)
        return update, tf.stack([_norm(gradient) for gradient, _ in gradients])

    def _health(self, endpoints):
        """Share of clipped eigenvalues, and condition number; without eigenvalues both are 0 and `unmeasured`."""
        if "eigenvalues" not in endpoints:
            self.unmeasured += ("clipped", "condition")
            return tf.zeros([]), tf.zeros([])
        settings = self.params.spd
        health = spd.spectrum_health(endpoints["eigenvalues"], settings.epsilon, settings.maximum)
        # JSON has no infinity.
        return health.clipped_share, tf.minimum(health.condition, health.condition.dtype.max)

    def _dropout(self, keep_probability):
        if keep_probability == 1.0:
            return None
        return self.device.dropout(keep_probability) or networks.keyed_dropout(
            keep_probability, self.global_step, self.workers.count, self.workers.rank
        )

    def _build_watch(self):
        """Norms and histograms of the weights, between steps."""
        self.weight_norms = tf.stack([_norm(each.read_value()) for each in self.variables])
        self.histograms = None
        if self.params.train.log_histograms:
            self.histograms = tf.summary.merge(
                [tf.summary.histogram("histograms/" + each.op.name, each) for each in self.variables]
            )

    @property
    def _retraction(self):
        """Matrix products only, if the logarithm uses only those too."""
        return "polar" if self.params.spd.method == "iterative" else "qr"

    def _build_scoring(self):
        """The network once more, on the same variables: averaged weights, moving statistics, nothing random.

        `inference` holds these weights by the names of their variables.
        """
        params = self.params
        self.inference = {}

        def averaged(getter, name, *arguments, **options):
            found = getter(name, *arguments, **options)
            average = self._average.average(found) if self._average else None
            value = found.read_value() if average is None else average.read_value()
            if average is not None and name.endswith(networks.BIMAP_WEIGHT):
                # The mean of orthonormal matrices is not one: back onto the manifold.
                value = spd.retract(value, self._retraction)
            self.inference[name] = value
            return value

        size = params.normalise.size
        self.images = tf.placeholder(tf.uint8, [params.train.batch_size, size, size, 3], "images")
        with tf.variable_scope(tf.get_variable_scope(), reuse=True, custom_getter=averaged):
            layers = networks.Layers(training=False)
            inputs = input_pipeline.normalise(self.images, params.network.normalisation)
            endpoints = networks.build(inputs, layers, params.network, params.spd, len(params.dataset.classes))
        self.logits = endpoints["logits"]

    def _build_ends(self):
        self.orthogonality = None
        if self.bimap_weights:
            self.orthogonality = spd.orthogonality_error(self.bimap_weights[0].read_value())
        self.all_variables = tf.global_variables()
        self.save_inference = checkpoints.WriteOp(self.inference)
        self.initialise = tf.global_variables_initializer()
        if self.workers.count > 1:
            self._build_following()
        with tf.device("/cpu:0"):
            self.saver = tf.train.Saver(self.all_variables, max_to_keep=None)
        self.load = checkpoints.LoadOp([each for each in self.all_variables if each.op.name in self.inference])
        # Averages of loaded weights start from those, not from the random ones.
        self.restart_averages = tf.group(
            *[tf.assign(self._average.average(each), each.read_value()) for each in self.variables]
            if self._average
            else []
        )

    def _build_following(self):
        """What a worker takes from worker 0: every variable, and a fingerprint to compare with its own."""
        self._follow = tf.group(
            *[tf.assign(each, self.workers.from_leader(each.read_value())) for each in self.all_variables]
        )
        self._numbers = tf.placeholder(tf.float32, [run_key.FINGERPRINT_LENGTH], "fingerprint")
        self._leaders_numbers = self.workers.from_leader(self._numbers)
        # One row per worker; each fills in its own.
        self._own_row = tf.placeholder(tf.float32, [self.workers.count, len(meter.Drawn._fields)], "drawn")
        self._all_rows = self.workers.sum(self._own_row)

    def drawn_by_all(self, session: tf.Session, drawn: meter.Drawn) -> meter.Drawn:
        """The energy and memory of all workers together, from this one's; all workers must call it at the same time."""
        if self.workers.count == 1:
            return drawn
        rows = np.zeros(self._own_row.shape.as_list(), np.float32)
        rows[self.workers.rank] = drawn
        found = [meter.Drawn(*row) for row in session.run(self._all_rows, {self._own_row: rows}).tolist()]
        return functools.reduce(meter.Drawn.beside, found)

    def follow(self, session: tf.Session, fingerprint: np.ndarray) -> bool:
        """Take every variable from worker 0.

        Args:
            session: of this graph.
            fingerprint: float32 [16], of this worker's run, see `run_key.fingerprint`.

        Returns:
            Whether worker 0 has the same fingerprint.
        """
        if self.workers.count == 1:
            return True
        same = np.array_equal(session.run(self._leaders_numbers, {self._numbers: fingerprint}), fingerprint)
        session.run(self._follow)
        return same

    def begin(self, session: tf.Session) -> None:
        """Prepare the first step of a session; call it once. Nothing is added to the graph after it."""
        with self.graph.as_default():
            self._run = self.device.step_op(session, self.step)
        self.graph.finalize()
        session.run(self.start_input)

    def run_step(self, session: tf.Session, learning_rate: float, stop: bool = False) -> Step:
        """Train one step, or the device's `steps_per_run` steps.

        Args:
            session: of this graph.
            learning_rate: of the step.
            stop: ask all workers to stop after it.

        Returns:
            The last step's values, plain numbers; `norms` is float32 [variables].

        Raises:
            NoDecomposition: the step's matrices are not finite.
        """
        feed = {self.learning_rate: learning_rate}
        if self.workers.count > 1:
            feed[self._stop] = float(stop)
        with _decompositions():
            _, (*values, norms, stop) = session.run([self._run, self.step_values], feed)
        return Step(*[float(value) for value in values], norms, bool(stop > 0))

    def score(self, session: tf.Session, images: np.ndarray) -> np.ndarray:
        """Score pictures with the averaged weights.

        Args:
            session: of this graph.
            images: uint8 [n, size, size, 3].

        Returns:
            Logits, float32 [n, classes].

        Raises:
            NoDecomposition: the matrices of the pictures are not finite.
        """
        with _decompositions():
            return input_pipeline.in_batches(
                lambda batch: session.run(self.logits, {self.images: batch}), images, self.params.train.batch_size
            )


def _norm(tensor):
    """The Euclidean norm, in one pass over the tensor and without a copy of it."""
    return tf.sqrt(2.0 * tf.nn.l2_loss(tensor))


def make_optimizer(train, learning_rate: tf.Tensor) -> tf.train.Optimizer:
    """One of the original's five optimisers, with the constants of the parameters.

    Args:
        train: a `config.Train`.
        learning_rate: float32 [], fed in each step.
    """
    if train.optimizer == "ADAGRAD":
        return tf.train.AdagradOptimizer(learning_rate, train.adagrad.initial_accumulator)
    if train.optimizer == "ADADELTA":
        return tf.train.AdadeltaOptimizer(learning_rate, train.adadelta.rho, train.adadelta.epsilon)
    if train.optimizer == "ADAM":
        return tf.train.AdamOptimizer(learning_rate, train.adam.beta1, train.adam.beta2, train.adam.epsilon)
    if train.optimizer == "RMSPROP":
        options = train.rmsprop
        return tf.train.RMSPropOptimizer(learning_rate, options.decay, options.momentum, options.epsilon)
    if train.optimizer == "MOM":
        return tf.train.MomentumOptimizer(learning_rate, train.mom.momentum, use_nesterov=train.mom.nesterov)
    raise ValueError(f"train.optimizer: expected ADAGRAD, ADADELTA, ADAM, RMSPROP or MOM, got {train.optimizer!r}")
