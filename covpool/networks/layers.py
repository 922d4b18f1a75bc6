"""The layers of the networks, with the original's constants and variable names.

Kernels are drawn from a normal distribution with standard deviation 0.1, truncated at two standard deviations. Batch
normalisation has a shift (beta) and no scale, epsilon 1e-3. Random numbers depend only on the seed and the variable's
name: an additional layer does not change the weights of the others, and all TensorFlow builds start from equal weights.
"""

import collections
import zlib
from typing import Callable, List, Optional

import tensorflow.compat.v1 as tf

from covpool.networks import patches
from covpool.networks.normalisation import max_pool, normalised, normalised_by_batch, normalised_maxima

KERNEL_DEVIATION = 0.1

#: f(tensor, seed) -> a tensor of the same shape
Dropout = Callable[[tf.Tensor, int], tf.Tensor]


class Layers:
    """Builds layers for one use of a network, training or scoring, and collects what the trainer needs.

    Args:
        training: True for batch statistics and dropout, False for moving statistics and no dropout.
        batch_norm_decay: the decay of the moving statistics; not needed for scoring.
        dropout: `f(tensor, seed)` that sets values to 0 at random and scales the others, such as `keyed_dropout`; a
            device may have its own. None: no dropout.
        seed: the seed of the initial weights and of dropout.
        over_workers: `f(tensor)`, the mean over the workers that train together. Each worker normalises by its own
            batch; the moving statistics follow the mean, so that they are equal on all workers.
        in_parts: whether, in training, a pooled convolution of pictures is computed a few pictures at a time, see
            `patches`.

    Attributes:
        kernels: the variables that weight decay acts on.
        updates: the operations that move the statistics of batch normalisation.
        outputs: the output tensor of each layer by its scope.
    """

    def __init__(
        self,
        training: bool,
        batch_norm_decay: float = 0.0,
        dropout: Optional[Dropout] = None,
        seed: int = 0,
        over_workers: Callable[[tf.Tensor], tf.Tensor] = lambda tensor: tensor,
        in_parts: bool = False,
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

    def convolution(
        self, inputs: tf.Tensor, channels: int, scope: str, pooled: bool = False, of_pictures: bool = False
    ) -> tf.Tensor:
        """Build a convolution: 3x3, stride 1, SAME padding, no bias, batch normalisation, ReLU.

        Args:
            inputs: float32 [B, h, w, c].
            channels: the number of output channels.
            scope: the layer's name.
            pooled: whether to take the maxima of 2x2 squares; an odd last row or column is left out.
            of_pictures: whether the inputs are the network's own, to which no gradient goes back.

        Returns:
            [B, h, w, channels], or [B, h // 2, w // 2, channels] if pooled.
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
            return self._noted(scope, tf.nn.relu(normal))

    def fully_connected(self, inputs: tf.Tensor, outputs: int, scope: str, relu: bool = True) -> tf.Tensor:
        """Build a fully connected layer: no bias, batch normalisation, ReLU if `relu`; [B, n] -> [B, outputs]."""
        with tf.variable_scope(scope):
            normal = self.batch_norm(tf.matmul(inputs, self.kernel([int(inputs.shape[-1]), outputs])))
            return self._noted(scope, tf.nn.relu(normal) if relu else normal)

    def logits(self, inputs: tf.Tensor, num_classes: int) -> tf.Tensor:
        """Build the last layer: a bias, no batch normalisation; [B, n] -> [B, num_classes]."""
        with tf.variable_scope("Logits"):
            kernel = self.kernel([int(inputs.shape[-1]), num_classes])
            biases = variable("biases", [num_classes], tf.zeros_initializer())
            return self._noted("Logits", tf.nn.bias_add(tf.matmul(inputs, kernel), biases))

    def _noted(self, scope, outputs):
        """Outputs, which are also noted under the layer's scope."""
        self.outputs[scope] = outputs
        return outputs

    def dropout(self, inputs: tf.Tensor, name: str) -> tf.Tensor:
        """Apply dropout in training, with a seed that depends on `name`; the shape stays."""
        if not self.training or self._dropout is None:
            return inputs
        return self._dropout(inputs, seed_for(self.seed, name))

    def kernel(self, shape: List[int]) -> tf.Variable:
        """Create the kernel of the current variable scope, a float32 variable of `shape`."""
        seed = seed_for(self.seed, tf.get_variable_scope().name)
        weights = variable("weights", shape, tf.truncated_normal_initializer(stddev=KERNEL_DEVIATION, seed=seed))
        self.kernels.append(weights)
        return weights

    def batch_norm(self, inputs: tf.Tensor, pooled: bool = False) -> tf.Tensor:
        """Normalise each channel: over the batch and the positions in training, else by the moving statistics.

        As in the original's library, the moving variance follows the unbiased variance of the batch, but the batch is
        normalised by the biased one.

        Args:
            inputs: float32 [B, h, w, c] or [B, c].
            pooled: whether to take the maxima of 2x2 squares of the normalised positions.

        Returns:
            A tensor of the shape of `inputs`, or [B, h // 2, w // 2, c] if pooled.
        """

        def by_batch(beta):
            return (normalised_maxima if pooled else normalised_by_batch)(inputs, tf.convert_to_tensor(beta))

        def by_moving(*statistics):
            return normalised(max_pool(inputs) if pooled else inputs, *statistics)

        return self._batch_norm(int(inputs.shape[-1]), by_batch, by_moving)

    def _batch_norm(self, channels, by_batch, by_moving=None):
        """Create the variables of a normalisation and build it.

        by_batch: `f(beta)` -> outputs, mean and unbiased variance of the batch. by_moving: `f(mean, variance, beta)` ->
        outputs; None if it is built in training only.
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


def keyed_dropout(keep_probability: float, step: tf.Tensor, workers: int = 1, rank: int = 0) -> Dropout:
    """Return a dropout whose mask depends only on the layer's seed and on the step.

    N. Srivastava et al.: Dropout, JMLR 15 (2014), in the form that divides the kept values by `keep_probability`. A
    resumed run has the same masks as an uninterrupted one; with `tf.nn.dropout` it would not, because the state of that
    generator is part of the session. Each of several workers draws the mask of the global batch and takes its own rows,
    so that together they have the mask of one worker.

    Args:
        keep_probability: the share of values that are kept, in (0, 1].
        step: a scalar integer tensor.
        workers: the number of workers that share a step.
        rank: which of them this graph is for, from 0.

    Returns:
        `f(tensor, seed)`, for `Layers`.
    """

    def dropout(inputs, seed):
        key = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
        if workers == 1:
            drawn = tf.random.stateless_uniform(tf.shape(inputs), seed=key)
        else:
            drawn = tf.random.stateless_uniform([workers] + inputs.shape.as_list(), seed=key)[rank]
        return inputs * (tf.cast(drawn < keep_probability, inputs.dtype) / keep_probability)

    return dropout


def variable(name: str, shape: List[int], initializer: Callable, trainable: bool = True) -> tf.Variable:
    """Create a float32 resource variable in the current variable scope, or return it if it is reused."""
    return tf.get_variable(name, shape, tf.float32, initializer=initializer, trainable=trainable, use_resource=True)


def seed_for(seed: int, name: str) -> int:
    """Derive a seed in [0, 2^31 - 1) from a run's seed and a name."""
    return (seed * 1000003 + zlib.crc32(name.encode("utf-8"))) % (2**31 - 1)
