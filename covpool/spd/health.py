"""Health numbers of the SPD layers, which training logs each epoch.

In a healthy run the orthogonality error is of the size of rounding errors (about 1e-6 in float32), few eigenvalues are
clipped, and condition numbers are below 1 / ridge.
"""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.spd.constants import REEIG_EPSILON, REEIG_MAXIMUM, logarithm_floor
from covpool.spd.scope import in_scope
from covpool.spd.shapes import FloatArray

SpectrumHealth = collections.namedtuple("SpectrumHealth", ["clipped_share", "condition", "worst_condition"])
SpectrumHealth.__doc__ = """Health of a batch of spectra, each a scalar tensor.

Attributes:
    clipped_share: the share of eigenvalues that ReEig clips, in [0, 1].
    condition: the geometric mean of the matrices' condition numbers, before clipping.
    worst_condition: the largest of these condition numbers.
"""


@in_scope
def orthogonality_error(w: FloatArray) -> tf.Tensor:
    """Compute max |W^T W - I|, the largest entry.

    Args:
        w: [n, m], float32 or float64.

    Returns:
        A scalar of the dtype of `w`; 0 if the columns are orthonormal.
    """
    gram = tf.matmul(w, w, transpose_a=True)
    return tf.reduce_max(tf.abs(gram - tf.constant(np.eye(gram.shape.as_list()[0]), gram.dtype)))


@in_scope
def spectrum_health(
    eigenvalues: FloatArray, epsilon: float = REEIG_EPSILON, maximum: float = REEIG_MAXIMUM
) -> SpectrumHealth:
    """Compute the share of clipped eigenvalues and the condition numbers of a batch.

    An eigenvalue at a bound counts as clipped, as in ReEig's gradient. Condition numbers replace eigenvalues below
    `constants.logarithm_floor` by that floor; the slightly negative ones of a rank-deficient matrix are among these.

    Args:
        eigenvalues: [B, n], ascending, from `log_reeig_with_spectrum` or `tf.linalg.eigvalsh`.
        epsilon: ReEig's lower bound.
        maximum: ReEig's upper bound.

    Returns:
        Three scalars of the dtype of `eigenvalues`.
    """
    beyond = tf.logical_or(eigenvalues <= epsilon, eigenvalues >= maximum)
    logarithms = tf.log(tf.maximum(eigenvalues, logarithm_floor(eigenvalues.dtype)))
    log_condition = logarithms[:, -1] - logarithms[:, 0]
    return SpectrumHealth(
        tf.reduce_mean(tf.cast(beyond, eigenvalues.dtype)),
        tf.exp(tf.reduce_mean(log_condition)),
        tf.exp(tf.reduce_max(log_condition)),
    )
