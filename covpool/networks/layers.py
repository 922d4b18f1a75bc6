"""The layers that the networks are made of, with the original's constants and variable names.

Every kernel is drawn from a normal distribution cut at two deviations (deviation 0.1). Batch normalisation has a shift
(beta) and no scale, epsilon 1e-3. A random number depends on the seed and the variable's name only, so adding a layer
leaves the others' weights as they were, and all TensorFlow builds start from the same numbers.
"""

import collections
import zlib

import numpy as np
import tensorflow.compat.v1 as tf

KERNEL_DEVIATION = 0.1
BATCH_NORM_EPSILON = 1e-3


class Layers:
    """Builds layers for one use of a network (training or scoring) and remembers what the trainer needs of them.

    training: batch statistics and dropout (True), or moving statistics and none (False).
    batch_norm_decay: of the moving statistics; not needed for scoring.
    dropout: `f(tensor, seed)`, which drops at random and scales what is left, such as `keyed_dropout`; a device may
    have its own. None: no dropout.
    over_workers: `f(tensor)`, the mean over the workers that train together. Each normalises by its own batch; the
    moving statistics follow the mean, so that they are the same everywhere.
    seed: of the initial weights and of dropout.

    After building, `kernels` holds what weight decay acts on, `updates` the operations that move the statistics, and
    `outputs` what each layer gives, by its scope.
    """

    def __init__(self, training, batch_norm_decay=0.0, dropout=None, seed=0, over_workers=lambda tensor: tensor):
        self.training = training
        self.batch_norm_decay = batch_norm_decay
        self.seed = seed
        self.kernels = []
        self.updates = []
        self.outputs = collections.OrderedDict()
        self._dropout = dropout
        self._over_workers = over_workers

    def convolution(self, inputs, channels, scope, pooled=False):
        """3x3, stride 1, SAME, no bias, batch normalisation, ReLU: [B, h, w, c] -> [B, h, w, channels].

        pooled: then the maxima of 2x2 squares, [B, h // 2, w // 2, channels]; an odd last row or column is left out.
        """
        with tf.variable_scope(scope):
            kernel = self.kernel([3, 3, int(inputs.shape[-1]), channels])
            outputs = tf.nn.conv2d(inputs, kernel, strides=[1, 1, 1, 1], padding="SAME")
            return self._told(scope, tf.nn.relu(self.batch_norm(outputs, pooled)))

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

        S. Ioffe, C. Szegedy: Batch Normalization, ICML 2015. As in the original's library the moving variance follows
        the unbiased variance of the batch, while the batch itself is divided by the biased one.

        pooled: the maxima of 2x2 squares of the normalised positions, computed as the normalised maxima. Without a
        scale that could be negative the two are the same, as for the ReLU after it.
        """
        channels = int(inputs.shape[-1])
        with tf.variable_scope("BatchNorm"):
            beta = variable("beta", [channels], tf.zeros_initializer())
            moving_mean = variable("moving_mean", [channels], tf.zeros_initializer(), trainable=False)
            moving_variance = variable("moving_variance", [channels], tf.ones_initializer(), trainable=False)
            if not self.training:
                maxima = _max_pool(inputs) if pooled else inputs
                return _normalised(maxima, moving_mean, moving_variance, beta)
            if pooled:
                outputs, mean, variance = _normalised_maxima(inputs, tf.convert_to_tensor(beta))
            elif inputs.shape.ndims == 4:
                outputs, mean, variance = _normalised_by_batch(inputs, beta)
            else:
                mean, biased = tf.nn.moments(inputs, [0])
                outputs = _normalised(inputs, mean, biased, beta)
                count = tf.cast(tf.shape(inputs)[0], tf.float32)
                variance = biased * (count / (count - 1.0))
            for moving, now in ((moving_mean, mean), (moving_variance, variance)):
                difference = moving - self._over_workers(now)
                self.updates.append(moving.assign_sub((1.0 - self.batch_norm_decay) * difference))
            return outputs


def _normalised(inputs, mean, variance, beta):
    if inputs.shape.ndims != 4:
        return tf.nn.batch_normalization(inputs, mean, variance, beta, None, BATCH_NORM_EPSILON)
    return tf.nn.fused_batch_norm(
        inputs, tf.ones_like(beta), beta, mean=mean, variance=variance, epsilon=BATCH_NORM_EPSILON, is_training=False
    )[0]


def _normalised_by_batch(inputs, beta):
    """[B, h, w, c] by its own statistics; returns these, the variance unbiased, too."""
    scale = tf.ones([int(inputs.shape[-1])])
    return tf.nn.fused_batch_norm(inputs, scale, beta, epsilon=BATCH_NORM_EPSILON, is_training=True)


@tf.custom_gradient
def _normalised_maxima(inputs, beta):
    """As `_normalised_by_batch`, of maxima of 2x2 squares.

    The backward pass is that of normalising first. But the large normalised positions, the most memory that a step
    would hold, are not kept for it: both of its operations need the inputs, which are kept for the convolution anyway.
    """
    if not inputs.shape.is_fully_defined():
        raise ValueError("inputs has the shape {}: wanted one that is known before it is run".format(inputs.shape))
    count = np.prod(inputs.shape.as_list()[:3], dtype=float)
    normalised, mean, variance = _normalised_by_batch(inputs, beta)
    maxima = _max_pool(inputs)

    def gradient(outer, *_):
        return tf.gradients(normalised, [inputs, beta], tf.gradients(maxima, inputs, outer))

    return (_normalised(maxima, mean, variance * ((count - 1.0) / count), beta), mean, variance), gradient


def _max_pool(inputs):
    return tf.nn.max_pool2d(inputs, ksize=2, strides=2, padding="VALID")


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
    return tf.get_variable(
        name, shape, tf.float32, initializer=initializer, trainable=trainable, use_resource=True
    )


def seed_for(seed, name):
    """A seed of its own for each named thing."""
    return (seed * 1000003 + zlib.crc32(name.encode("utf-8"))) % (2**31 - 1)

