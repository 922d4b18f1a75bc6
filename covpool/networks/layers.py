"""The layers that the networks are made of, with the original's constants and variable names.

Every kernel is drawn from a normal distribution cut at two deviations (deviation 0.1). Batch normalisation has a shift
(beta) and no scale, epsilon 1e-3. A random number depends on the seed and the variable's name only, so adding a layer
leaves the others' weights as they were, and all TensorFlow builds start from the same numbers.
"""

import collections
import zlib

import tensorflow.compat.v1 as tf

from covpool.networks import patches
from covpool.networks.normalisation import max_pool, normalised, normalised_by_batch, normalised_maxima

KERNEL_DEVIATION = 0.1


class Layers:
    """Builds layers for one use of a network (training or scoring) and remembers what the trainer needs of them.

    training: batch statistics and dropout (True), or moving statistics and none (False).
    batch_norm_decay: of the moving statistics; not needed for scoring.
    dropout: `f(tensor, seed)`, which drops at random and scales what is left, such as `keyed_dropout`; a device may
    have its own. None: no dropout.
    over_workers: `f(tensor)`, the mean over the workers that train together. Each normalises by its own batch; the
    moving statistics follow the mean, so that they are the same everywhere.
    seed: of the initial weights and of dropout.
    in_parts: whether a pooled convolution of pictures goes through a few of them at a time in training, see `patches`.

    After building, `kernels` holds what weight decay acts on, `updates` the operations that move the statistics, and
    `outputs` what each layer gives, by its scope.
    """

    def __init__(
        self, training, batch_norm_decay=0.0, dropout=None, seed=0, over_workers=lambda tensor: tensor, in_parts=False
    ):
        self.training = training
        self.batch_norm_decay = batch_norm_decay
        self.seed = seed
        self.kernels = []
        self.updates = []
        self.outputs = collections.OrderedDict()
        self._dropout = dropout
        self._over_workers = over_workers
        self._in_parts = in_parts

    def convolution(self, inputs, channels, scope, pooled=False, of_pictures=False):
        """3x3, stride 1, SAME, no bias, batch normalisation, ReLU: [B, h, w, c] -> [B, h, w, channels].

        pooled: then the maxima of 2x2 squares, [B, h // 2, w // 2, channels]; an odd last row or column is left out.
        of_pictures: the inputs are the network's own, to which no gradient goes back.
        """
        with tf.variable_scope(scope):
            kernel = self.kernel([3, 3, int(inputs.shape[-1]), channels])
            if self.training and self._in_parts and pooled and of_pictures:
                normal = self._batch_norm(
                    channels, lambda beta: patches.normalised_maxima(inputs, tf.convert_to_tensor(kernel), beta)
                )
            else:
                outputs = tf.nn.conv2d(inputs, kernel, strides=[1, 1, 1, 1], padding="SAME")
                normal = self.batch_norm(outputs, pooled)
            return self._told(scope, tf.nn.relu(normal))

    def fully_connected(self, inputs, outputs, scope, relu=True):
        """No bias, batch normalisation, ReLU unless told otherwise: [B, n] -> [B, outputs]."""
        with tf.variable_scope(scope):
            normal = self.batch_norm(tf.matmul(inputs, self.kernel([int(inputs.shape[-1]), outputs])))
            return self._told(scope, tf.nn.relu(normal) if relu else normal)

    def logits(self, inputs, classes):
        """The last layer: a bias, no batch normalisation; [B, n] -> [B, classes]."""
        with tf.variable_scope("Logits"):
            kernel = self.kernel([int(inputs.shape[-1]), classes])
            biases = variable("biases", [classes], tf.zeros_initializer())
            return self._told("Logits", tf.nn.bias_add(tf.matmul(inputs, kernel), biases))

    def _told(self, scope, outputs):
        self.outputs[scope] = outputs
        return outputs

    def dropout(self, inputs, name):
        """Drop in training, with a seed of the layer's own."""
        if not self.training or self._dropout is None:
            return inputs
        return self._dropout(inputs, seed_for(self.seed, name))

    def kernel(self, shape):
        seed = seed_for(self.seed, tf.get_variable_scope().name)
        weights = variable("weights", shape, tf.truncated_normal_initializer(stddev=KERNEL_DEVIATION, seed=seed))
        self.kernels.append(weights)
        return weights

    def batch_norm(self, inputs, pooled=False):
        """Normalise each channel over the batch (and the positions), or by the moving statistics: [B, ..., c].

        As in the original's library the moving variance follows the unbiased variance of the batch, while the batch
        itself is divided by the biased one.

        pooled: the maxima of 2x2 squares of the normalised positions.
        """

        def by_batch(beta):
            return (normalised_maxima if pooled else normalised_by_batch)(inputs, tf.convert_to_tensor(beta))

        def by_moving(*statistics):
            return normalised(max_pool(inputs) if pooled else inputs, *statistics)

        return self._batch_norm(int(inputs.shape[-1]), by_batch, by_moving)

    def _batch_norm(self, channels, by_batch, by_moving=None):
        """The variables of a normalisation, around what it computes.

        by_batch: `f(beta)`, gives outputs, mean and unbiased variance of the batch; by_moving: `f(mean, variance,
        beta)`, gives outputs; None: only for training.
        """
        with tf.variable_scope("BatchNorm"):
            beta = variable("beta", [channels], tf.zeros_initializer())
            moving_mean = variable("moving_mean", [channels], tf.zeros_initializer(), trainable=False)
            moving_variance = variable("moving_variance", [channels], tf.ones_initializer(), trainable=False)
            if not self.training:
                return by_moving(moving_mean, moving_variance, beta)
            outputs, mean, variance = by_batch(beta)
            for moving, now in ((moving_mean, mean), (moving_variance, variance)):
                difference = moving - self._over_workers(now)
                self.updates.append(moving.assign_sub((1.0 - self.batch_norm_decay) * difference))
            return outputs


def keyed_dropout(keep_probability, step, workers=1, rank=0):
    """Dropout whose mask depends on the layer's seed and on `step` (a scalar tensor) alone.

    A run that is taken up again at a step therefore drops what it would have dropped; the state of `tf.nn.dropout`'s
    generator, which lives in the session, starts anew. Of several workers each draws the mask of the global batch and
    takes its own rows: together they drop what one worker would. N. Srivastava et al.: Dropout, JMLR 15 (2014), in the
    form that divides what is kept by `keep_probability`. Returns the `f(tensor, seed)` of a `Layers`.
    """

    def dropout(inputs, seed):
        key = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
        if workers == 1:
            drawn = tf.random.stateless_uniform(tf.shape(inputs), seed=key)
        else:
            drawn = tf.random.stateless_uniform([workers] + inputs.shape.as_list(), seed=key)[rank]
        return inputs * (tf.cast(drawn < keep_probability, inputs.dtype) / keep_probability)

    return dropout


def variable(name, shape, initializer, trainable=True):
    return tf.get_variable(name, shape, tf.float32, initializer=initializer, trainable=trainable, use_resource=True)


def seed_for(seed, name):
    """A seed of its own for each named thing."""
    return (seed * 1000003 + zlib.crc32(name.encode("utf-8"))) % (2**31 - 1)
