"""Every number that the SPD layers lean on, with its source.

"The paper" is Acharya, Huang, Paudel, Van Gool, Covariance Pooling for Facial Expression Recognition, CVPRW 2018,
arXiv 1805.04855; the values it leaves open are those of its authors' code.
"""

import numpy as np

RIDGE = 1e-4
"""Share of the trace added to a covariance's diagonal (the paper adds lambda trace(C) I; the value is the authors')."""

REEIG_EPSILON = 1e-4
"""Lower bound of the eigenvalues that ReEig lets through (the authors' code)."""

REEIG_MAXIMUM = 1e4
"""Upper bound of the same, so that a logarithm lies within +-9.21 (the authors' code)."""

SERIES_RADIUS = 0.125
"""Below this |a - b| / (a + b) the divided difference of the logarithm is summed as a series.

Above it log(a) - log(b) is at least 0.25 while its rounding error is at most |log| machine epsilons: nothing is lost.
"""

SERIES_TERMS = {"float32": 4, "float64": 8}
"""Terms of that series: the first one left out is below the dtype's machine epsilon at SERIES_RADIUS."""

SCHULZ_CAP = 0.6
"""Largest r of a scaled Newton-Schulz step a s (1 - r s^2).

r = 1 grows small values fastest but sends 1 to 0, and rounding errors with it; 0.6 keeps the image of 1 at 0.8, and
the logarithm of the step's factor within reach of a polynomial of low degree.
"""

LOG_POLYNOMIAL_FROM = 0.4
"""The iterative logarithm stops scaling and takes a polynomial once every eigenvalue lies in [this, 1].

It is where log(x) becomes as easy a function as log(1 - SCHULZ_CAP x) is on [0, 1]: 1 - SCHULZ_CAP.
"""

LOG_POLYNOMIAL_TOLERANCE = {"float32": 2e-7, "float64": 1e-14}
"""Error allowed to each of those polynomials: what rounding adds anyway."""

RESOLVED_EPSILONS = 8
"""Smallest share of the norm that the iterative logarithm may be asked to resolve, in machine epsilons.

Steps that raise it to 1 raise the rounding errors of smaller eigenvalues, of either sign, by as much.
"""

POLAR_LOWEST = 1e-2
"""Smallest singular value, as a share of the norm, that the polar retraction brings back to 1 in one go."""


def machine_epsilon(dtype):
    """Distance from 1 to the next number of a TensorFlow float `dtype`."""
    return float(np.finfo(dtype.as_numpy_dtype).eps)


def logarithm_floor(dtype):
    """Smallest eigenvalue whose logarithm is taken: the square of machine epsilon, 1.4e-14 or 4.9e-32.

    Far below what a decomposition resolves beside eigenvalues of order 1, and large enough for a slope of 1 / floor,
    and its square, to stay finite.
    """
    return machine_epsilon(dtype) ** 2
