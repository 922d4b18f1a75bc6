"""The network's training step as a textbook writes it, against which the pipeline's own graph is measured.

As in the original: the covariance is formed in full (256x256), BiMap's W is repeated for every picture, ReEig and
LogEig each have an eigendecomposition with TensorFlow's own gradient, pictures arrive through a placeholder, and W is
retracted by an operation beside the update. Of what the original asks for and does not do (dropout, averages,
augmentation) nothing is here.
"""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

from benchmarks.speed import problem

Textbook = collections.namedtuple(
    "Textbook", ["images", "labels", "variables", "loss", "cross_entropy", "center", "gradients", "step", "logits"]
)


def build(size=problem.SIZE, classes=problem.CLASSES, dtype=tf.float32, training=True):
    """The graph, in the default graph, on pictures [n, size, size, 3]: a `Textbook`.

    variables: {name below the scope: variable}; gradients: by the same names; step: the operations of one step.
    training: normalise by the batch (True) or by the moving statistics, without gradients and step.
    """
    images = tf.placeholder(dtype, [None, size, size, 3], "images")
    labels = tf.placeholder(tf.int32, [None], "labels")
    network = _Network(dtype, training)
    net = images
    for name, channels in zip(problem.CONVOLUTIONS, (64, 96, 128, 128, 256, 256)):
        net = network.convolution(net, channels, name)
        if name in problem.POOLED_AFTER:
            net = tf.nn.max_pool2d(net, 2, 2, "VALID")
    net = tf.reshape(_log_eig(_re_eig(_bi_map(_covariance(net), network))), [-1, 128 * 128])
    net = tf.nn.relu(network.fully_connected(net, 2000, "fc_1"))
    embeddings = network.fully_connected(net, 128, "Bottleneck")
    kernel = network.kernel("Logits/weights", [128, classes])
    logits = tf.matmul(embeddings, kernel) + network.variable("Logits/biases", np.zeros(classes))
    if not training:
        return Textbook(images, labels, network.variables, None, None, None, None, None, logits)
    cross_entropy = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    l2 = problem.WEIGHT_DECAY * tf.add_n([tf.nn.l2_loss(each) for each in network.kernels])
    centers = network.variable("centers", np.zeros([classes, 128]))
    center = problem.CENTER_FACTOR * tf.reduce_mean(tf.square(embeddings - tf.gather(centers, labels)))
    loss = cross_entropy + l2 + center
    gradients = dict(zip(network.variables, tf.gradients(loss, list(network.variables.values()))))
    step = [_update(network.variables, gradients), _retraction(network.variables[problem.BIMAP]), *network.updates]
    return Textbook(images, labels, network.variables, loss, cross_entropy, center, gradients, step, logits)


class _Network:
    """Layers that keep their variables, by the original's names; those of weights come from `problem`'s files."""

    def __init__(self, dtype, training):
        self.dtype = dtype
        self.training = training
        self.variables = collections.OrderedDict()
        self.kernels = []
        self.updates = []

    def variable(self, name, value, trainable=True):
        made = tf.get_variable(name, initializer=tf.constant(value, self.dtype), trainable=trainable)
        if trainable:
            self.variables[name] = made
        return made

    def kernel(self, name, shape):
        made = tf.get_variable(name, shape, self.dtype, initializer=tf.truncated_normal_initializer(stddev=0.1))
        self.variables[name] = made
        self.kernels.append(made)
        return made

    def convolution(self, net, channels, name):
        kernel = self.kernel(name + "/weights", [3, 3, int(net.shape[-1]), channels])
        return tf.nn.relu(self.batch_norm(tf.nn.conv2d(net, kernel, strides=[1, 1, 1, 1], padding="SAME"), name))

    def fully_connected(self, net, outputs, name):
        return self.batch_norm(tf.matmul(net, self.kernel(name + "/weights", [int(net.shape[-1]), outputs])), name)

    def batch_norm(self, net, name):
        channels = int(net.shape[-1])
        beta = self.variable(name + "/BatchNorm/beta", np.zeros(channels))
        moving = [
            self.variable(f"{name}/BatchNorm/moving_{part}", start, trainable=False)
            for part, start in (("mean", np.zeros(channels)), ("variance", np.ones(channels)))
        ]
        if not self.training:
            return tf.nn.batch_normalization(net, moving[0], moving[1], beta, None, problem.BATCH_NORM_EPSILON)
        if net.shape.ndims == 4 and self.dtype == tf.float32:
            scale = tf.ones([channels])
            net, mean, variance = tf.nn.fused_batch_norm(net, scale, beta, epsilon=problem.BATCH_NORM_EPSILON)
        else:
            mean, variance = tf.nn.moments(net, list(range(net.shape.ndims - 1)))
            net = tf.nn.batch_normalization(net, mean, variance, beta, None, problem.BATCH_NORM_EPSILON)
        for each, now in zip(moving, (mean, variance)):
            self.updates.append(tf.assign_sub(each, (1.0 - problem.BATCH_NORM_DECAY) * (each - now)))
        return net


def _covariance(net):
    """[B, h, w, 256] -> [B, 256, 256], with the ridge."""
    positions, channels = int(net.shape[1]) * int(net.shape[2]), int(net.shape[3])
    features = tf.reshape(net, [-1, positions, channels])
    features -= tf.reduce_mean(features, axis=1, keepdims=True)
    covariance = tf.matmul(features, features, transpose_a=True) / (positions - 1)
    identity = tf.eye(channels, dtype=net.dtype)
    return covariance + problem.RIDGE * tf.trace(covariance)[:, tf.newaxis, tf.newaxis] * identity


def _bi_map(covariance, network):
    start = np.linalg.qr(np.random.RandomState(0).standard_normal([256, 128]))[0]
    weight = network.variable(problem.BIMAP, start)
    tiled = tf.tile(weight[tf.newaxis], [tf.shape(covariance)[0], 1, 1])
    return tf.matmul(tf.matmul(tiled, covariance, transpose_a=True), tiled)


def _re_eig(matrix):
    s, u = tf.self_adjoint_eig(matrix)
    return _recomposed(u, tf.clip_by_value(s, problem.EPSILON, problem.MAXIMUM))


def _log_eig(matrix):
    s, u = tf.self_adjoint_eig(matrix)
    return _recomposed(u, tf.log(tf.clip_by_value(s, problem.EPSILON, problem.MAXIMUM)))


def _recomposed(u, s):
    return tf.matmul(tf.matmul(u, tf.matrix_diag(s)), u, transpose_b=True)


def _update(variables, gradients):
    options = problem.ADAM
    optimizer = tf.train.AdamOptimizer(problem.RATE, options["beta1"], options["beta2"], options["epsilon"])
    pairs = []
    for name, each in variables.items():
        gradient = tf.convert_to_tensor(gradients[name])
        if name == problem.BIMAP:
            inner = tf.matmul(each, gradient, transpose_a=True)
            gradient -= tf.matmul(each, 0.5 * (inner + tf.transpose(inner)))
        pairs.append((gradient, each))
    return optimizer.apply_gradients(pairs)


def _retraction(weight):
    return tf.assign(weight, tf.linalg.qr(weight)[0])
