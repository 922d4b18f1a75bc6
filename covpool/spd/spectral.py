"""ReEig, LogEig and their composition, each with the exact gradient, forward and backward side by side.

For X = U diag(s) U^T and Z = U diag(f(s)) U^T the gradient is (Daleckii and Krein 1965; Higham, Functions of Matrices,
theorem 3.11)

    dL/dX = U (K o (U^T sym(dL/dZ) U)) U^T,    K_ij = (f(s_i) - f(s_j)) / (s_i - s_j),  f'(s_i) where the two coincide.

It is finite for repeated eigenvalues, where the gradient of an eigendecomposition is not. ReEig is f = clip, LogEig is
f = log, and one after the other is the single function f = log(clip), whose K is the product of the two
(the chain rule of divided differences), so that it costs one eigendecomposition and the backward pass none.
"""

import tensorflow.compat.v1 as tf

from covpool.spd.constants import REEIG_EPSILON, REEIG_MAXIMUM, SERIES_RADIUS, SERIES_TERMS, logarithm_floor
from covpool.spd.shapes import as_square_batch, symmetric_part


def reeig(x, epsilon=REEIG_EPSILON, maximum=REEIG_MAXIMUM):
    """Eigenvalues clipped to [epsilon, maximum]: U clip(S) U^T.

    Eigenvalue rectification of Huang and Van Gool, AAAI 2017, with the upper bound of the CovPoolFER code. x: [B, n,
    n], of which the symmetric part is read. Returns [B, n, n]. An eigenvalue at a bound counts as clipped: slope 0.
    """
    _check_bounds(epsilon, maximum)

    def values(s):
        return _clip(s, epsilon, maximum)

    def slopes(s):
        return _clip_differences(s, epsilon, maximum)

    return _spectral_map(x, values, slopes)[0]


def logeig(x):
    """Matrix logarithm U log(S) U^T.

    Eigenvalue logarithm of Huang and Van Gool, AAAI 2017. x: [B, n, n], of which the symmetric part is read.
    Returns [B, n, n]. Eigenvalues below `constants.logarithm_floor` (machine epsilon squared: 1.4e-14 in float32,
    4.9e-32 in float64) are raised to it and pass no gradient, so the zero matrix gives a finite result.
    """
    x = as_square_batch(x, "x")
    return log_reeig(x, logarithm_floor(x.dtype), x.dtype.max)


def log_reeig(x, epsilon=REEIG_EPSILON, maximum=REEIG_MAXIMUM):
    """logeig(reeig(x, epsilon, maximum)) with one eigendecomposition.

    x: [B, n, n], of which the symmetric part is read. Returns [B, n, n]. See also: iterative.log_iterative.
    """
    return log_reeig_with_spectrum(x, epsilon, maximum)[0]


def log_reeig_with_spectrum(x, epsilon=REEIG_EPSILON, maximum=REEIG_MAXIMUM):
    """log_reeig by eigendecomposition, and the eigenvalues [B, n] of x, ascending, before clipping.

    The eigenvalues are for `health.spectrum_health`: no gradient flows through them.
    """
    _check_bounds(epsilon, maximum)

    def values(s):
        return tf.log(_clip(s, epsilon, maximum))

    def slopes(s):
        return _log_differences(_clip(s, epsilon, maximum)) * _clip_differences(s, epsilon, maximum)

    return _spectral_map(x, values, slopes)


def _check_bounds(epsilon, maximum):
    if not 0 < epsilon < maximum:
        raise ValueError(f"epsilon is {epsilon} and maximum is {maximum}, wanted 0 < epsilon < maximum")


def _spectral_map(x, values, slopes):
    """U diag(values(s)) U^T and s; `slopes` gives the divided differences [B, n, n] of `values`."""

    @tf.custom_gradient
    def mapped(symmetric):
        s, u = tf.linalg.eigh(symmetric)

        def gradient(dz, _):
            rotated = tf.matmul(tf.matmul(u, dz, transpose_a=True), u)
            return tf.matmul(tf.matmul(u, slopes(s) * rotated), u, transpose_b=True)

        z = tf.matmul(u * tf.expand_dims(values(s), 1), u, transpose_b=True)
        return (z, s), gradient

    # eigh reads one triangle only. Outside the custom gradient, this also symmetrises what comes back, in place of
    # sym(dL/dZ): K is symmetric, so it is the same.
    z, s = mapped(symmetric_part(as_square_batch(x, "x")))
    return z, tf.stop_gradient(s)


def _clip(s, epsilon, maximum):
    return tf.minimum(tf.maximum(s, epsilon), maximum)


def _difference(s):
    """s_i - s_j: [B, n] to [B, n, n]."""
    return tf.expand_dims(s, 2) - tf.expand_dims(s, 1)


def _clip_differences(s, epsilon, maximum):
    """Divided differences of clip: 1 for two inside, 0 for two beyond one bound, a ratio otherwise.

    Nothing is lost for near eigenvalues: their subtraction is exact (Sterbenz), clipped or not.
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
    which has no cancellation for near a and b and is 1 / a where they coincide. Only products and sums: some devices
    compute log1p(t) as log(1 + t).
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
