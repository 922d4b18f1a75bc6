"""Batch normalisation of a tensor, with a shift (beta) and no scale, and of its maxima.

S. Ioffe, C. Szegedy: Batch Normalization, ICML 2015.
"""

import numpy as np
import tensorflow.compat.v1 as tf

EPSILON = 1e-3


def normalised(inputs, mean, variance, beta):
    """[B, ..., c] by statistics that are given, each [c]."""
    if inputs.shape.ndims != 4:
        return tf.nn.batch_normalization(inputs, mean, variance, beta, None, EPSILON)
    return tf.nn.fused_batch_norm(
        inputs, tf.ones_like(beta), beta, mean=mean, variance=variance, epsilon=EPSILON, is_training=False
    )[0]


def normalised_by_batch(inputs, beta):
    """[B, h, w, c] or [B, c] by its own statistics; returns these, the variance unbiased, too."""
    if inputs.shape.ndims == 4:
        scale = tf.ones([int(inputs.shape[-1])])
        return tf.nn.fused_batch_norm(inputs, scale, beta, epsilon=EPSILON, is_training=True)
    mean, biased = tf.nn.moments(inputs, [0])
    count = tf.cast(tf.shape(inputs)[0], tf.float32)
    return normalised(inputs, mean, biased, beta), mean, biased * (count / (count - 1.0))


@tf.custom_gradient
def normalised_maxima(inputs, beta):
    """As `normalised_by_batch`, of maxima of 2x2 squares; inputs: [B, h, w, c], of known shape.

    Computed as the normalised maxima: without a scale that could be negative the two are the same. The backward pass is
    that of normalising first. But the large normalised positions, the most memory that a step would hold, are not kept
    for it: both of its operations need the inputs, which are kept for the convolution anyway.
    """
    count = np.prod(known_shape(inputs)[:3], dtype=float)
    all_normalised, mean, variance = normalised_by_batch(inputs, beta)
    maxima = max_pool(inputs)

    def gradient(outer, *_):
        return tf.gradients(all_normalised, [inputs, beta], tf.gradients(maxima, inputs, outer))

    return (normalised(maxima, mean, variance * ((count - 1.0) / count), beta), mean, variance), gradient


def max_pool(inputs):
    """Maxima of 2x2 squares, [B, h, w, c] -> [B, h // 2, w // 2, c]; an odd last row or column is left out."""
    return tf.nn.max_pool2d(inputs, ksize=2, strides=2, padding="VALID")


def known_shape(tensor):
    """The shape as a list of numbers. Raises ValueError where it is not known before the tensor is run."""
    if not tensor.shape.is_fully_defined():
        raise ValueError(f"inputs has the shape {tensor.shape}: wanted one that is known before it is run")
    return tensor.shape.as_list()
