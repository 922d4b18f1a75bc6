"""ReEig, LogEig and their composition, each with its exact gradient.

For X = U diag(s) U^T and Z = U diag(f(s)) U^T the gradient is (Daleckii and Krein 1965; Higham, Functions of Matrices,
theorem 3.11)

    dL/dX = U (K o (U^T sym(dL/dZ) U)) U^T,    K_ij = (f(s_i) - f(s_j)) / (s_i - s_j),  f'(s_i) if the two are equal.

It is finite for repeated eigenvalues; the gradient of an eigendecomposition is not. ReEig is f = clip, LogEig is
f = log. LogEig after ReEig is the single function f = log(clip), whose K is the product of the two (the chain rule of
divided differences): it needs one eigendecomposition, and the backward pass needs none.
"""

from typing import Tuple

import tensorflow.compat.v1 as tf

from covpool.spd.constants import REEIG_EPSILON, REEIG_MAXIMUM, SERIES_RADIUS, SERIES_TERMS, logarithm_floor
from covpool.spd.shapes import FloatArray, as_square_batch, symmetric_part


def reeig(x: FloatArray, epsilon: float = REEIG_EPSILON, maximum: float = REEIG_MAXIMUM) -> tf.Tensor:
    """Clip eigenvalues to [epsilon, maximum]: U clip(S) U^T for X = U S U^T.

    This is the eigenvalue rectification of Huang and Van Gool, AAAI 2017, max(epsilon I, S), with the additional upper
    bound of the CovPoolFER code. An eigenvalue at a bound counts as clipped: its slope is 0.

    Args:
        x: [B, n, n], float32 or float64; its symmetric part is used.
        epsilon: the lower bound, above 0.
        maximum: the upper bound, above `epsilon`.

    Returns:
        [B, n, n].

    Raises:
        ValueError: if the bounds are not in this order, or `x` does not fit.
    """
    _check_bounds(epsilon, maximum)

    def values(s):
        return _clip(s, epsilon, maximum)

    def slopes(s):
        return _clip_differences(s, epsilon, maximum)

    return _spectral_map(x, values, slopes)[0]


def logeig(x: FloatArray) -> tf.Tensor:
    """Compute the matrix logarithm U log(S) U^T for X = U S U^T.

    This is the eigenvalue logarithm of Huang and Van Gool, AAAI 2017. Eigenvalues below `constants.logarithm_floor`
    (machine epsilon squared: 1.4e-14 in float32, 4.9e-32 in float64) are raised to it and pass no gradient, so the zero
    matrix gives a finite result.

    Args:
        x: [B, n, n], float32 or float64; its symmetric part is used.

    Returns:
        [B, n, n].

    Raises:
        ValueError: if `x` does not fit.
    """
    x = as_square_batch(x, "x")
    return log_reeig(x, logarithm_floor(x.dtype), x.dtype.max)


def log_reeig(x: FloatArray, epsilon: float = REEIG_EPSILON, maximum: float = REEIG_MAXIMUM) -> tf.Tensor:
    """Compute `logeig(reeig(x, epsilon, maximum))` with one eigendecomposition: U log(clip(S)) U^T.

    See `iterative.log_iterative` for a logarithm without an eigendecomposition.

    Args:
        x: [B, n, n], float32 or float64; its symmetric part is used.
        epsilon: ReEig's lower bound, above 0.
        maximum: ReEig's upper bound, above `epsilon`.

    Returns:
        [B, n, n].

    Raises:
        ValueError: if the bounds are not in this order, or `x` does not fit.
    """
    return log_reeig_with_spectrum(x, epsilon, maximum)[0]


def log_reeig_with_spectrum(
    x: FloatArray, epsilon: float = REEIG_EPSILON, maximum: float = REEIG_MAXIMUM
) -> Tuple[tf.Tensor, tf.Tensor]:
    """Compute `log_reeig`, and also return the eigenvalues before clipping.

    Args:
        x: [B, n, n], float32 or float64; its symmetric part is used.
        epsilon: ReEig's lower bound, above 0.
        maximum: ReEig's upper bound, above `epsilon`.

    Returns:
        The logarithm [B, n, n], and the eigenvalues of x [B, n], ascending. The eigenvalues are for
        `health.spectrum_health`: no gradient flows through them.

    Raises:
        ValueError: if the bounds are not in this order, or `x` does not fit.
    """
    _check_bounds(epsilon, maximum)

    def values(s):
        return tf.log(_clip(s, epsilon, maximum))

    def slopes(s):
        return _log_differences(_clip(s, epsilon, maximum)) * _clip_differences(s, epsilon, maximum)

    return _spectral_map(x, values, slopes)


def _check_bounds(epsilon, maximum):
    if not 0 < epsilon < maximum:
        raise ValueError(f"expected 0 < epsilon < maximum, got epsilon {epsilon} and maximum {maximum}")


def _spectral_map(x, values, slopes):
    """Compute U diag(values(s)) U^T and s; `slopes` gives the divided differences [B, n, n] of `values`."""

    @tf.custom_gradient
    def mapped(symmetric):
        s, u = tf.linalg.eigh(symmetric)

        def gradient(dz, _):
            rotated = tf.matmul(tf.matmul(u, dz, transpose_a=True), u)
            return tf.matmul(tf.matmul(u, slopes(s) * rotated), u, transpose_b=True)

        z = tf.matmul(u * tf.expand_dims(values(s), 1), u, transpose_b=True)
        return (z, s), gradient

    # eigh reads one triangle only. As this is outside of the custom gradient, it also symmetrises the gradient. That is
    # the same as sym(dL/dZ), because K is symmetric.
    z, s = mapped(symmetric_part(as_square_batch(x, "x")))
    return z, tf.stop_gradient(s)


def _clip(s, epsilon, maximum):
    """Eigenvalues [B, n] in [epsilon, maximum]."""
    return tf.minimum(tf.maximum(s, epsilon), maximum)


def _difference(s):
    """s_i - s_j: [B, n] to [B, n, n]."""
    return tf.expand_dims(s, 2) - tf.expand_dims(s, 1)


def _clip_differences(s, epsilon, maximum):
    """Divided differences of clip: 1 for two eigenvalues inside, 0 for two beyond the same bound, a ratio otherwise.

    No digits are lost for close eigenvalues, because the subtraction of close numbers is exact (Sterbenz).
    """
    difference = _difference(s)
    equal = tf.equal(difference, 0)
    inside = tf.cast(tf.logical_and(s > epsilon, s < maximum), s.dtype)
    slope = tf.expand_dims(inside, 2) * tf.ones_like(difference)
    quotient = _difference(_clip(s, epsilon, maximum)) / tf.where(equal, tf.ones_like(difference), difference)
    return tf.where(equal, slope, quotient)


def _log_differences(c):
    """Divided differences of the logarithm for positive c: [B, n] to [B, n, n].

    With t = (a - b) / (a + b): log a - log b = 2 artanh t, so the quotient is 2 / (a + b) (1 + t^2/3 + t^4/5 + ...),
    which has no cancellation for close a and b and is 1 / a for equal ones. It uses only products and sums, because
    some devices compute log1p(t) as log(1 + t).
    """
    difference = _difference(c)
    total = tf.expand_dims(c, 2) + tf.expand_dims(c, 1)
    t_squared = tf.square(difference / total)
    near = t_squared < SERIES_RADIUS**2
    series = tf.zeros_like(t_squared)
    for term in reversed(range(SERIES_TERMS[c.dtype.name])):
        series = series * t_squared + 1.0 / (2 * term + 1)
    quotient = _difference(tf.log(c)) / tf.where(near, tf.ones_like(difference), difference)
    return tf.where(near, 2 * series / total, quotient)
