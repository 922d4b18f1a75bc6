"""Matrix logarithm by matrix products only, for accelerators on which an eigendecomposition is slow.

Inverse scaling and squaring takes square roots repeatedly until the logarithm is easy; the roots are expensive. Here
they are never formed. A scaled Newton-Schulz step (`schulz`) on the square root of an eigenvalue x is

    x' = x h(x)^2,    h(x) = a (1 - r x),    so that    log x = log x' - 2 log h(x),

and after K steps, with every eigenvalue in [0.4, 1],

    log X = log X_K - 2 sum_k log h_k(X_k).

Every logarithm on the right is of a well-conditioned matrix, so a polynomial of low degree approximates it, and the
powers of X_k that the polynomial needs also give X_{k+1}. X_{k+1} is a polynomial in X_k alone, with slope 0 at its
limit, so rounding errors do not grow, as they would in an uncoupled Newton iteration.

Domain. X is scaled by its Frobenius norm; eigenvalues down to `lowest` times the norm are resolved. The ridge of
covariance pooling keeps them at `ridge` times the trace or more, so use `lowest` = ridge. The norm of a Gaussian's
matrix also contains the squared mean, so use a hundredth of that. There is no clipping: an eigenvalue above ReEig's
maximum, or below its epsilon but above `lowest` times the norm, gets its true logarithm and its true slope. Below
`lowest` the result flattens out smoothly and monotonically, to about 3 below log(lowest norm) at 0, with slopes of at
most about 16 / (lowest norm) in float32 and 32 / (lowest norm) in float64. The result is finite for the zero matrix and
for negative eigenvalues that are rounding errors. For an indefinite matrix the iteration diverges.

The gradient is TensorFlow's own through the products: exact for the function that is computed.
"""

import functools
import math
import operator
from typing import List, NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.spd.constants import (
    LOG_POLYNOMIAL_FROM,
    LOG_POLYNOMIAL_TOLERANCE,
    RESOLVED_EPSILONS,
    RIDGE,
    logarithm_floor,
)
from covpool.spd.schulz import scaled_steps
from covpool.spd.shapes import FloatArray, as_square_batch, symmetric_part

BLOCK = 3
"""Number of powers of a matrix that are formed: a step is a cubic, and polynomials are evaluated in blocks of three."""


def log_iterative(x: FloatArray, lowest: float = RIDGE) -> tf.Tensor:
    """Compute the matrix logarithm of SPD matrices by matrix products only.

    The module's description says what happens to eigenvalues below `lowest`; docs/spd-layers.md has the error against
    `logeig`.

    Args:
        x: [B, n, n], float32 or float64; its symmetric part is used.
        lowest: the smallest eigenvalue that is resolved, as a share of the matrix's Frobenius norm.

    Returns:
        [B, n, n].

    Raises:
        ValueError: if the dtype does not resolve `lowest`, if it is 0.4 or more, or if `x` does not fit.
    """
    x = symmetric_part(as_square_batch(x, "x"))
    plan = logarithm_plan(lowest, x.dtype.name)
    identity = tf.constant(np.eye(x.shape.as_list()[1]), x.dtype)
    norm = _norm(x)
    # Polynomials are in a variable in [-1, 1], here t = 2 x - 1, so that their coefficients stay small.
    t = 2 * (x / norm) - identity
    total = tf.log(norm) * identity
    for log_factor, next_iterate in plan.steps:
        powers = _powers(t)
        total -= 2 * _polynomial(log_factor, powers, identity)
        t = _polynomial(next_iterate, powers, identity)
    # Now every eigenvalue is in [1 - width, 1], and u is in [-1, 1] again.
    u = (t - (1 - plan.width) * identity) / plan.width
    return total + _polynomial(plan.remainder, _powers(u), identity)


class LogarithmPlan(NamedTuple):
    """The polynomials of an iterative logarithm; each has a degree divisible by BLOCK.

    Attributes:
        steps: pairs of coefficients in t = 2 x - 1: of log h(x), and of the next t.
        width: after the steps every eigenvalue is in [1 - width, 1].
        remainder: coefficients of log x in u, where x = 1 - width (1 - u) / 2.
    """

    steps: List[Tuple[np.ndarray, np.ndarray]]
    width: float
    remainder: np.ndarray


def logarithm_plan(lowest: float, dtype_name: str = "float32") -> LogarithmPlan:
    """The polynomials that `log_iterative` evaluates, for programs that compute the same without TensorFlow.

    Args:
        lowest: the smallest eigenvalue that is resolved, as a share of the matrix's Frobenius norm.
        dtype_name: `float32` or `float64`.

    Raises:
        ValueError: if the dtype does not resolve `lowest`, or if it is 0.4 or more.
    """
    resolved = RESOLVED_EPSILONS * float(np.finfo(dtype_name).eps)
    if not resolved <= lowest < LOG_POLYNOMIAL_FROM:
        raise ValueError(
            f"lowest must be a share of the norm in [{resolved:.1e}, {LOG_POLYNOMIAL_FROM}) for {dtype_name}, got "
            f"{lowest}: smaller eigenvalues are rounding errors and may be negative"
        )
    tolerance = LOG_POLYNOMIAL_TOLERANCE[dtype_name]
    steps, reached = scaled_steps(math.sqrt(lowest), math.sqrt(LOG_POLYNOMIAL_FROM))
    width = 1 - reached**2
    polynomials = [(_log_factor(a, r, tolerance), _next_iterate(a, r)) for a, r in steps]
    return LogarithmPlan(polynomials, width, _log_remainder(width, tolerance))


def _norm(x):
    """Frobenius norms [B, 1, 1], above 0, without a gradient: log(s I) + log(X / s) does not depend on s."""
    norm = tf.sqrt(tf.reduce_sum(tf.square(x), axis=[1, 2], keepdims=True))
    return tf.stop_gradient(tf.maximum(norm, logarithm_floor(x.dtype)))


def _powers(t):
    """T, T^2, ..., T^BLOCK, each [B, n, n]."""
    powers = [t]
    while len(powers) < BLOCK:
        powers.append(tf.matmul(t, powers[-1]))
    return powers


def _polynomial(coefficients, powers, identity):
    """sum_i coefficients[i] T^i; the degree must be divisible by BLOCK (Paterson and Stockmeyer 1973)."""
    starts = range(0, len(coefficients) - 1, BLOCK)
    result = 0
    for start in reversed(starts):
        terms = [c * power for c, power in zip(coefficients[start + 1 : start + BLOCK], powers)]
        # The highest block also has the highest power; the others multiply the sum of the blocks above by it.
        terms.append(coefficients[-1] * powers[-1] if start == starts[-1] else tf.matmul(powers[-1], result))
        # Not add_n: it adds in the order in which memory becomes free, so the last digit would not be reproducible.
        result = functools.reduce(operator.add, terms) + coefficients[start] * identity
    return result


def _log_factor(a, r, tolerance):
    """Coefficients of log h(x) = log(a (1 - r x)) in t = 2 x - 1."""
    return _fitted(lambda t: np.log(a * (1 - 0.5 * r * (1 + t))), tolerance)


def _log_remainder(width, tolerance):
    """Coefficients of log x in u, for x = 1 - width (1 - u) / 2."""
    return _fitted(lambda u: np.log(1 - 0.5 * width * (1 - u)), tolerance)


def _next_iterate(a, r):
    """Coefficients of 2 x h(x)^2 - 1 in t = 2 x - 1."""
    x = np.polynomial.Polynomial([0.5, 0.5])
    return (2 * x * (a * (1 - r * x)) ** 2 - 1).coef


def _fitted(function, tolerance):
    """Coefficients of a polynomial for `function` on [-1, 1], of the lowest fitting degree divisible by BLOCK."""
    grid, degree = np.cos(np.linspace(0, np.pi, 1001)), BLOCK
    while True:
        series = np.polynomial.chebyshev.chebinterpolate(function, degree)
        if np.max(np.abs(np.polynomial.chebyshev.chebval(grid, series) - function(grid))) < tolerance:
            return np.polynomial.chebyshev.cheb2poly(series)
        degree += BLOCK
