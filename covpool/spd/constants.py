"""The constants of the SPD layers, each with its source.

"The paper" is Acharya, Huang, Paudel, Van Gool, Covariance Pooling for Facial Expression Recognition, CVPRW 2018,
arXiv 1805.04855; values that the paper does not give are taken from its authors' code.
"""

import numpy as np
import tensorflow.compat.v1 as tf

RIDGE = 1e-4
"""Share of the trace added to a covariance's diagonal (the paper adds lambda trace(C) I; the value is the authors')."""

REEIG_EPSILON = 1e-4
"""Lower bound of the eigenvalues after ReEig (the authors' code)."""

REEIG_MAXIMUM = 1e4
"""Upper bound of the eigenvalues after ReEig, so that their logarithms lie within +-9.21 (the authors' code)."""

SERIES_RADIUS = 0.125
"""Below this |a - b| / (a + b) the divided difference of the logarithm is summed as a series.

Above it log(a) - log(b) is at least 0.25, and its rounding error is at most |log| machine epsilons: no digits are lost.
"""

SERIES_TERMS = {"float32": 4, "float64": 8}
"""Number of terms of that series: at SERIES_RADIUS the first omitted term is below the dtype's machine epsilon."""

SCHULZ_CAP = 0.6
"""Largest r of a scaled Newton-Schulz step a s (1 - r s^2).

r = 1 makes small values grow fastest but maps 1 to 0 and so amplifies rounding errors. With 0.6 the image of 1 is 0.8,
and a polynomial of low degree approximates the logarithm of the step's factor.
"""

LOG_POLYNOMIAL_FROM = 0.4
"""The iterative logarithm stops scaling and evaluates a polynomial once every eigenvalue lies in [this, 1].

The value is 1 - SCHULZ_CAP: on this interval log(x) is as easy to approximate as log(1 - SCHULZ_CAP x) is on [0, 1].
"""

LOG_POLYNOMIAL_TOLERANCE = {"float32": 2e-7, "float64": 1e-14}
"""Largest error of each of those polynomials: about the size of the rounding errors."""

RESOLVED_EPSILONS = 8
"""Lower limit of `lowest` in the iterative logarithm, in machine epsilons (a share of the norm).

The steps that raise the share to 1 raise the rounding errors of smaller eigenvalues, of either sign, by that factor.
"""

POLAR_LOWEST = 1e-2
"""Smallest singular value, as a share of the norm, that one polar retraction brings back to 1."""


def machine_epsilon(dtype: tf.DType) -> float:
    """Distance from 1 to the next larger number of a float `dtype`: 1.2e-7 in float32, 2.2e-16 in float64."""
    return float(np.finfo(dtype.as_numpy_dtype).eps)


def logarithm_floor(dtype: tf.DType) -> float:
    """Smallest eigenvalue of which a logarithm is taken: machine epsilon squared.

    1.4e-14 in float32, 4.9e-32 in float64. An eigendecomposition does not resolve such small values beside eigenvalues
    of order 1. The slope 1 / floor and its square stay finite.
    """
    return machine_epsilon(dtype) ** 2
