"""Pools local features to one SPD matrix per image: covariance, projected covariance and Gaussian pooling.

Covariance pooling is that of Acharya et al., CVPRW 2018, arXiv 1805.04855:

    C = sum_i (f_i - mean)(f_i - mean)^T / (P - 1),    made positive definite by a ridge: C + ridge trace(C) I.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.spd.constants import RIDGE
from covpool.spd.shapes import FloatArray, as_batch, as_frame, last_size


def _positions(features):
    """P of features [B, P, C]: an int if it is static, a tensor otherwise."""
    positions = features.shape.as_list()[1]
    if positions is None:
        return tf.shape(features)[1]
    if positions < 2:
        raise ValueError(f"expected at least two positions for a covariance, got features of shape {features.shape}")
    return positions


def _centred(features):
    """Features [B, P, C] minus their mean over positions, and the covariance's divisor P - 1 in their dtype."""
    features = as_batch(features, "features", "B, P, C")
    freedom = tf.cast(_positions(features), features.dtype) - 1
    return features - tf.reduce_mean(features, axis=1, keepdims=True), freedom


def _scaled(matrix, scale):
    """scale[b] * matrix for a batch of scalars [B] and one matrix [n, n]."""
    return tf.reshape(scale, [-1, 1, 1]) * matrix


def _scatter(centred, freedom):
    """Unbiased covariance [B, C, C] of centred features."""
    return tf.matmul(centred, centred, transpose_a=True) / freedom


def _trace(centred, freedom):
    """Trace [B] of the covariance of centred features, without forming it."""
    return tf.reduce_sum(tf.square(centred), axis=[1, 2]) / freedom


def covariance_pool(features: FloatArray, ridge: float = RIDGE) -> tf.Tensor:
    """Compute the unbiased covariance over positions, plus a ridge: C + ridge trace(C) I.

    Acharya et al., CVPRW 2018, section 3.

    Args:
        features: [B, P, C], float32 or float64; P >= 2 positions, C static.
        ridge: the share of the trace that is added to the diagonal.

    Returns:
        [B, C, C], positive definite unless all positions are equal.

    Raises:
        ValueError: if the shape or the dtype does not fit.
    """
    centred, freedom = _centred(features)
    identity = np.eye(last_size(centred, "features"), dtype=centred.dtype.as_numpy_dtype)
    return _scatter(centred, freedom) + _scaled(ridge * identity, _trace(centred, freedom))


def projected_covariance(features: FloatArray, w: FloatArray, ridge: float = RIDGE) -> tf.Tensor:
    """Compute `bimap(covariance_pool(features, ridge), w)` without forming the C x C matrix.

    The value and both gradients are the same:

        W^T (cov(F) + ridge trace(cov F) I) W = cov(F W) + ridge trace(cov F) W^T W.

    W^T W is I on the Stiefel manifold, but its gradient is part of the original's, so it is computed.

    Args:
        features: [B, P, C], float32 or float64; P >= 2 positions, C static.
        w: [C, m] of the same dtype.
        ridge: the share of the trace that is added to the diagonal.

    Returns:
        [B, m, m].

    Raises:
        ValueError: if a shape or a dtype does not fit.
    """
    centred, freedom = _centred(features)
    channels = last_size(centred, "features")
    w = as_frame(w, channels, centred.dtype)
    # One tall matrix product, instead of a copy of W for every image.
    projected = tf.matmul(tf.reshape(centred, [-1, channels]), w)
    projected = tf.reshape(projected, [-1, _positions(centred), w.shape.as_list()[1]])
    gram = tf.matmul(w, w, transpose_a=True)
    return _scatter(projected, freedom) + _scaled(gram, ridge * _trace(centred, freedom))


def gaussian_pool(features: FloatArray, ridge: float = RIDGE) -> tf.Tensor:
    """Compute mean and covariance as one SPD matrix: [[S + m m^T, m], [m^T, 1]], S = covariance_pool(features, ridge).

    This is the embedding of Gaussians into SPD matrices of Calvo and Oller, Journal of Multivariate Analysis 35 (1990);
    its determinant is that of S. The authors of CovPoolFER name it as the alternative to covariance pooling.

    Args:
        features: [B, P, C], float32 or float64; P >= 2 positions, C static.
        ridge: the share of the covariance's trace that is added to its diagonal.

    Returns:
        [B, C + 1, C + 1].

    Raises:
        ValueError: if the shape or the dtype does not fit.
    """
    covariance = covariance_pool(features, ridge)
    mean = tf.reduce_mean(features, axis=1, keepdims=True)
    column = tf.reshape(mean, [-1, last_size(covariance, "features"), 1])
    upper = tf.concat([covariance + column * mean, column], axis=2)
    lower = tf.concat([mean, tf.ones_like(mean[:, :, :1])], axis=2)
    return tf.concat([upper, lower], axis=1)
