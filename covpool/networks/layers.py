"""The layers that the networks are made of, with the original's constants and variable names.

Every kernel is drawn from a normal distribution cut at two deviations (deviation 0.1). Batch normalisation has a shift
(beta) and no scale, epsilon 1e-3. A random number depends on the seed and the variable's name only, so adding a layer
leaves the others' weights as they were, and all TensorFlow builds start from the same numbers.
"""

import zlib

import tensorflow.compat.v1 as tf

KERNEL_DEVIATION = 0.1
BATCH_NORM_EPSILON = 1e-3


class Layers:
    """Builds layers for one use of a network (training or scoring) and remembers what the trainer needs of them.

    training: batch statistics and dropout (True), or moving statistics and none (False).
    batch_norm_decay: of the moving statistics.
    keep_probability: of dropout.
    seed: of the initial weights and of dropout.
    dropout: `f(tensor, keep_probability, seed)`, for a device that has its own.

    After building, `kernels` holds what weight decay acts on and `updates` the operations that move the statistics.
    """

    def __init__(self, training, batch_norm_decay, keep_probability=1.0, seed=0, dropout=None):
        self.training = training
        self.batch_norm_decay = batch_norm_decay
        self.keep_probability = keep_probability
        self.seed = seed
        self.kernels = []
        self.updates = []
        self._dropout = dropout or _core_dropout

    def convolution(self, inputs, channels, scope):
        """3x3, stride 1, SAME, no bias, batch normalisation, ReLU: [B, h, w, c] -> [B, h, w, channels]."""
        with tf.variable_scope(scope):
            kernel = self.kernel([3, 3, int(inputs.shape[-1]), channels])
            outputs = tf.nn.conv2d(inputs, kernel, strides=[1, 1, 1, 1], padding="SAME")
            return tf.nn.relu(self.batch_norm(outputs))

    def max_pool(self, inputs):
        """2x2, stride 2, VALID: an odd last row or column is left out."""
        return tf.nn.max_pool2d(inputs, ksize=2, strides=2, padding="VALID")

    def fully_connected(self, inputs, outputs, scope, relu=True):
        """No bias, batch normalisation, ReLU unless told otherwise: [B, n] -> [B, outputs]."""
        with tf.variable_scope(scope):
            normal = self.batch_norm(tf.matmul(inputs, self.kernel([int(inputs.shape[-1]), outputs])))
            return tf.nn.relu(normal) if relu else normal

    def logits(self, inputs, classes):
        """The last layer: a bias, no batch normalisation; [B, n] -> [B, classes]."""
        with tf.variable_scope("Logits"):
            kernel = self.kernel([int(inputs.shape[-1]), classes])
            biases = variable("biases", [classes], tf.zeros_initializer())
            return tf.nn.bias_add(tf.matmul(inputs, kernel), biases)

    def dropout(self, inputs, name):
        if not self.training or self.keep_probability == 1.0:
            return inputs
        return self._dropout(inputs, self.keep_probability, seed_for(self.seed, name))

    def kernel(self, shape):
        seed = seed_for(self.seed, tf.get_variable_scope().name)
        weights = variable("weights", shape, tf.truncated_normal_initializer(stddev=KERNEL_DEVIATION, seed=seed))
        self.kernels.append(weights)
        return weights

    def batch_norm(self, inputs):
        """Normalise each channel over the batch (and the positions), or by the moving statistics."""
        channels = int(inputs.shape[-1])
        with tf.variable_scope("BatchNorm"):
            beta = variable("beta", [channels], tf.zeros_initializer())
            moving_mean = variable("moving_mean", [channels], tf.zeros_initializer(), trainable=False)
            moving_variance = variable("moving_variance", [channels], tf.ones_initializer(), trainable=False)
            fused = inputs.shape.ndims == 4
            if not self.training:
                if not fused:
                    return tf.nn.batch_normalization(
                        inputs, moving_mean, moving_variance, beta, None, BATCH_NORM_EPSILON
                    )
                return tf.nn.fused_batch_norm(
                    inputs, tf.ones([channels]), beta, mean=moving_mean, variance=moving_variance,
                    epsilon=BATCH_NORM_EPSILON, is_training=False,
                )[0]  # fmt: skip
            if fused:
                outputs, mean, variance = tf.nn.fused_batch_norm(
                    inputs, tf.ones([channels]), beta, epsilon=BATCH_NORM_EPSILON, is_training=True
                )
            else:
                mean, variance = tf.nn.moments(inputs, [0])
                outputs = tf.nn.batch_normalization(inputs, mean, variance, beta, None, BATCH_NORM_EPSILON)
            for moving, now in ((moving_mean, mean), (moving_variance, variance)):
                self.updates.append(moving.assign_sub((1.0 - self.batch_norm_decay) * (moving - now)))
            return outputs


def variable(name, shape, initializer, trainable=True):
    return tf.get_variable(
        name, shape, tf.float32, initializer=initializer, trainable=trainable, use_resource=True
    )


def seed_for(seed, name):
    """A seed of its own for each named thing."""
    return (seed * 1000003 + zlib.crc32(name.encode("utf-8"))) % (2**31 - 1)


def _core_dropout(inputs, keep_probability, seed):
    return tf.nn.dropout(inputs, rate=1.0 - keep_probability, seed=seed)
