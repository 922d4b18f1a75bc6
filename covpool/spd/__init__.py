"""Layers on symmetric positive definite matrices, and the Stiefel steps that train their weights.

Acharya, Huang, Paudel, Van Gool, Covariance Pooling for Facial Expression Recognition, CVPRW 2018, arXiv 1805.04855.
Matrices are batches [B, n, n] in float32 or float64; n is static, B may be unknown. docs/spd-layers.md has the
equations, the gradients and the measured errors.
"""

from covpool.spd.constants import REEIG_EPSILON, REEIG_MAXIMUM, RIDGE
from covpool.spd.health import SpectrumHealth, orthogonality_error, spectrum_health
from covpool.spd.iterative import log_iterative, logarithm_plan
from covpool.spd.layers import VECTORISATIONS, bimap, upper_weights, vectorise
from covpool.spd.pooling import covariance_pool, gaussian_pool, projected_covariance
from covpool.spd.scope import in_scope, operations
from covpool.spd.spectral import log_reeig, log_reeig_with_spectrum, logeig, reeig
from covpool.spd.stiefel import RETRACTIONS, apply_on_stiefel, random_orthonormal, retract, tangent_project, transport

__all__ = [
    "REEIG_EPSILON",
    "REEIG_MAXIMUM",
    "RETRACTIONS",
    "RIDGE",
    "SpectrumHealth",
    "VECTORISATIONS",
    "apply_on_stiefel",
    "bimap",
    "covariance_pool",
    "gaussian_pool",
    "in_scope",
    "log_iterative",
    "log_reeig",
    "log_reeig_with_spectrum",
    "logarithm_plan",
    "logeig",
    "operations",
    "orthogonality_error",
    "projected_covariance",
    "random_orthonormal",
    "reeig",
    "retract",
    "spectrum_health",
    "tangent_project",
    "transport",
    "upper_weights",
    "vectorise",
]
