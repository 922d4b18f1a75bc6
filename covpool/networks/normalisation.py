"""Batch normalisation with a shift (beta) and no scale, of a tensor and of its maxima.

S. Ioffe, C. Szegedy: Batch Normalization, ICML 2015: y = (x - mean) / sqrt(variance + EPSILON) + beta.
"""

from typing import List, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

EPSILON = 1e-3


def normalised(inputs: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """Normalise each channel by given statistics.

    Args:
        inputs: float32 [B, h, w, c] or [B, c].
        mean: [c].
        variance: [c].
        beta: [c], the shift.

    Returns:
        A tensor of the shape of `inputs`.
    """
    if inputs.shape.ndims != 4:
        return tf.nn.batch_normalization(inputs, mean, variance, beta, None, EPSILON)
    return tf.nn.fused_batch_norm(
        inputs, tf.ones_like(beta), beta, mean=mean, variance=variance, epsilon=EPSILON, is_training=False
    )[0]


def normalised_by_batch(inputs: tf.Tensor, beta: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalise each channel by the statistics of the batch.

    Args:
        inputs: float32 [B, h, w, c] or [B, c].
        beta: [c], the shift.

    Returns:
        A tensor of the shape of `inputs`, normalised by the biased variance; the mean [c]; the unbiased variance [c].
    """
    if inputs.shape.ndims == 4:
        scale = tf.ones([int(inputs.shape[-1])])
        return tf.nn.fused_batch_norm(inputs, scale, beta, epsilon=EPSILON, is_training=True)
    mean, biased = tf.nn.moments(inputs, [0])
    count = tf.cast(tf.shape(inputs)[0], tf.float32)
    return normalised(inputs, mean, biased, beta), mean, biased * (count / (count - 1.0))


@tf.custom_gradient
def normalised_maxima(inputs: tf.Tensor, beta: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalise by the statistics of the batch, then take the maxima of 2x2 squares.

    The forward pass normalises the maxima. The result is the same, because there is no scale that could be negative.
    The backward pass is that of normalising first. It needs the inputs, which are kept for the convolution anyway, but
    not the normalised positions, which would be the largest buffer of a training step.

    Args:
        inputs: float32 [B, h, w, c], of a shape that is known when the graph is built.
        beta: [c], the shift.

    Returns:
        [B, h // 2, w // 2, c]; the mean [c]; the unbiased variance [c]. A gradient goes through the first only.

    Raises:
        ValueError: if the shape is not known.
    """
    count = np.prod(known_shape(inputs)[:3], dtype=float)
    all_normalised, mean, variance = normalised_by_batch(inputs, beta)
    maxima = max_pool(inputs)

    def gradient(outer, *_):
        return tf.gradients(all_normalised, [inputs, beta], tf.gradients(maxima, inputs, outer))

    return (normalised(maxima, mean, variance * ((count - 1.0) / count), beta), mean, variance), gradient


def max_pool(inputs: tf.Tensor) -> tf.Tensor:
    """Take maxima of 2x2 squares, [B, h, w, c] -> [B, h // 2, w // 2, c]; an odd last row or column is left out."""
    return tf.nn.max_pool2d(inputs, ksize=2, strides=2, padding="VALID")


def known_shape(tensor: tf.Tensor) -> List[int]:
    """Return the static shape.

    Raises:
        ValueError: if a size is not known when the graph is built.
    """
    if not tensor.shape.is_fully_defined():
        raise ValueError(f"expected inputs of a static shape, got {tensor.shape}: set the batch size")
    return tensor.shape.as_list()
