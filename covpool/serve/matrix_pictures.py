"""A covariance matrix as a picture that a newcomer can read."""

from __future__ import annotations

import numpy as np

#: Colours of -1, 0 and 1: red, white, blue.
_LOW, _MIDDLE, _HIGH = np.array([[178, 24, 43], [250, 250, 250], [33, 102, 172]], float)
#: The share of the entries that may be stronger than the strongest colour.
_SATURATED = 0.01


def order(covariance: np.ndarray) -> np.ndarray:
    """An order of the features in which those that rise and fall together stand side by side.

    The features are sorted by the angle that their entries in the two leading eigenvectors of the correlation matrix
    form (M. Friendly: Corrgrams, The American Statistician 56(4), 2002).

    Args:
        covariance: float [n, n], symmetric.

    Returns:
        int [n], a permutation.
    """
    deviation = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
    _, vectors = np.linalg.eigh(covariance / np.outer(deviation, deviation))
    first, second = vectors[:, -1], vectors[:, -2]
    return np.argsort(np.arctan2(second, first), kind="stable")


def coloured(matrix: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """A matrix as colours: blue for positive entries, red for negative ones, white for 0.

    Args:
        matrix: float [n, n].
        indices: the order of its rows and columns.

    Returns:
        uint8 [n, n, 3].
    """
    values = np.asarray(matrix, float)[np.ix_(indices, indices)]
    strongest = np.quantile(np.abs(values), 1 - _SATURATED) or 1.0
    share = np.clip(values / strongest, -1, 1)[..., None]
    colours = np.where(share < 0, _MIDDLE + (_LOW - _MIDDLE) * -share, _MIDDLE + (_HIGH - _MIDDLE) * share)
    return np.round(colours).astype(np.uint8)


def before_and_after(covariance: np.ndarray, logarithm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix before and after the logarithm as pictures, in one order.

    The logarithm of a small variance is a large negative number, which would colour the whole diagonal. It says how
    large all variances are together; what is shown is the rest, how they differ: log C - tr(log C) / n I.

    Args:
        covariance, logarithm: float [n, n], symmetric.

    Returns:
        Two uint8 [n, n, 3].
    """
    indices = order(covariance)
    size = len(logarithm)
    rest = logarithm - np.trace(logarithm) / size * np.eye(size)
    return coloured(covariance, indices), coloured(rest, indices)
