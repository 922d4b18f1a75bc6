"""Numbers that tell whether the manifold part of a network is well, for the log of each epoch.

A healthy run keeps the orthogonality error at rounding (about 1e-6 in float32), clips few eigenvalues, and has
condition numbers below 1 / ridge.
"""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.spd.constants import REEIG_EPSILON, REEIG_MAXIMUM, logarithm_floor
from covpool.spd.scope import in_scope

SpectrumHealth = collections.namedtuple("SpectrumHealth", ["clipped_share", "condition", "worst_condition"])
SpectrumHealth.__doc__ = """Scalars: share of eigenvalues that ReEig clips; the batch's condition number before
clipping (geometric mean over matrices); the largest one."""


@in_scope
def orthogonality_error(w):
    """Largest entry of |W^T W - I|, a scalar. w: [n, m]."""
    gram = tf.matmul(w, w, transpose_a=True)
    return tf.reduce_max(tf.abs(gram - tf.constant(np.eye(gram.shape.as_list()[0]), gram.dtype)))


@in_scope
def spectrum_health(eigenvalues, epsilon=REEIG_EPSILON, maximum=REEIG_MAXIMUM):
    """SpectrumHealth of eigenvalues [B, n], ascending: those of `log_reeig_with_spectrum`, or `tf.linalg.eigvalsh`.

    An eigenvalue at a bound counts as clipped, as in ReEig's gradient. Values below `constants.logarithm_floor`, the
    slightly negative ones of a rank-deficient matrix among them, enter condition numbers as that floor.
    """
    beyond = tf.logical_or(eigenvalues <= epsilon, eigenvalues >= maximum)
    logarithms = tf.log(tf.maximum(eigenvalues, logarithm_floor(eigenvalues.dtype)))
    log_condition = logarithms[:, -1] - logarithms[:, 0]
    return SpectrumHealth(
        tf.reduce_mean(tf.cast(beyond, eigenvalues.dtype)),
        tf.exp(tf.reduce_mean(log_condition)),
        tf.exp(tf.reduce_max(log_condition)),
    )
