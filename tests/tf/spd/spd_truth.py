"""Independent truths for the SPD layers, from NumPy and mpmath; nothing here knows TensorFlow.

A matrix is made from an orthogonal U and a spectrum s that are known, so the gradient's truth needs no
eigendecomposition: U (K o (U^T sym(G) U)) U^T with K from 50-digit logarithms of the exact s.
"""

import mpmath
import numpy as np

DIGITS = 50


def orthogonal(rng, size):
    return np.linalg.qr(rng.standard_normal(size=(size, size)))[0]


def assemble(u, spectrum):
    """U diag(s) U^T, exactly symmetric."""
    x = (u * np.asarray(spectrum)) @ u.T
    return 0.5 * (x + x.T)


def clip(value, low, high):
    return min(max(value, mpmath.mpf(low)), mpmath.mpf(high))


def log_of_clip(low, high):
    """f and its derivative away from the bounds, on mpmath numbers."""
    return (lambda s: mpmath.log(clip(s, low, high))), (lambda s: 1 / s if low < s < high else mpmath.mpf(0))


def only_clip(low, high):
    return (lambda s: clip(s, low, high)), (lambda s: mpmath.mpf(1 if low < s < high else 0))


def divided_differences(spectrum, function, derivative):
    """K of the Daleckii-Krein theorem as float64, each entry computed with DIGITS digits."""
    with mpmath.workdps(DIGITS):
        s = [mpmath.mpf(float(value)) for value in spectrum]
        f = [function(value) for value in s]
        k = np.zeros([len(s), len(s)])
        for i in range(len(s)):
            for j in range(i + 1):
                k[i, j] = k[j, i] = derivative(s[i]) if s[i] == s[j] else (f[i] - f[j]) / (s[i] - s[j])
        return k


def spectral_truth(u, spectrum, g, functions):
    """Value and gradient of <g, f(X)> at X = U diag(s) U^T."""
    function, derivative = functions
    with mpmath.workdps(DIGITS):
        f = np.array([float(function(mpmath.mpf(float(value)))) for value in spectrum])
    k = divided_differences(spectrum, function, derivative)
    return (u * f) @ u.T, u @ (k * (u.T @ (0.5 * (g + g.T)) @ u)) @ u.T


def mpmath_directional(x, direction, g, function):
    """d/dt <g, f(x + t direction)> at 0 by central differences of 60-digit eigendecompositions."""
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -18

        def inner(t):
            s, u = mpmath.eigsy(mpmath.matrix(x.tolist()) + t * mpmath.matrix(direction.tolist()))
            f = u * mpmath.diag([function(value) for value in s]) * u.T
            return sum(f[i, j] * mpmath.mpf(float(g[i, j])) for i in range(len(x)) for j in range(len(x)))

        return float((inner(step) - inner(-step)) / (2 * step))


def central_difference(function, x, direction, step):
    """d/dt function(x + t direction) at 0 in float64, fourth order."""

    def at(t):
        return function(x + t * direction)

    return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)


def relative_error(value, truth):
    """Largest entry of the difference over the largest entry of the truth."""
    return np.abs(value - truth).max() / np.abs(truth).max()
