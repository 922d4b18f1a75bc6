"""Errors of the SPD layers, as the Markdown tables of docs/spd-layers.md; a minute or two.

    stages/tf benchmarks/spd_accuracy.py

The truth is made from a known orthogonal matrix and a known spectrum in float64, with the divided differences of the
logarithm through log1p; for float32 it is that of the rounded matrix. An error is the largest entry of the difference
over the largest entry of the truth, or over 1 for a value whose truth is smaller, and the worst of MATRICES matrices.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf

from covpool import spd

MATRICES = 4
STEPS = 2000
SIZES = (8, 128)
CONDITIONS = (1e0, 1e2, 1e4, 1e5, 1e6, 1e8, 1e10, 1e12)
FLOAT32_CONDITION = 1e5
"""Beyond it float32 rounds the smallest eigenvalues away, and the iterative logarithm refuses to be asked for them."""
SHARES = (1e-1, 1e-2, 1e-3, 1e-4, 5e-5, 1e-5, 1e-6, 1e-8, 0.0)
"""Eigenvalues over the norm, for the table of what the iterative logarithm does below `lowest`."""


def log_spaced(size, condition):
    return np.logspace(-np.log10(condition), 0, size)


def special_spectra(size):
    """Name and spectrum of what makes a naive gradient fail; `size` is divisible by 8."""
    base = log_spaced(size, 1e3)
    pairs = np.repeat(base[::2], 2)
    yield "every eigenvalue equal", np.full(size, 0.3)
    yield "equal pairs", pairs
    for gap in (1e-3, 1e-6, 1e-9):
        yield f"pairs {gap:.0e} apart (relative)", pairs * np.where(np.arange(size) % 2, 1 + gap, 1)
    yield "half below epsilon", np.where(np.arange(size) < size // 2, 0.1 * spd.REEIG_EPSILON, base)
    yield "rank a quarter", np.where(np.arange(size) < 3 * size // 4, 0.0, base)
    yield "half above maximum", log_spaced(size, 1e3) * 30 * spd.REEIG_MAXIMUM


def matrices(spectrum, rng):
    """MATRICES orthogonal matrices and the symmetric ones that they make with `spectrum`."""
    frames = np.stack([spd.random_orthonormal(rng, len(spectrum), len(spectrum), np.float64) for _ in range(MATRICES)])
    x = np.matmul(frames * spectrum, frames.transpose(0, 2, 1))
    return frames, 0.5 * (x + x.transpose(0, 2, 1))


def divided_differences(s, low, high):
    """Those of log(clip) over all pairs of s [n], by log1p of the clipped values times those of clip."""
    a, b = s[:, None], s[None, :]
    c = np.clip(s, low, high)
    larger, smaller = np.maximum(c[:, None], c), np.minimum(c[:, None], c)
    ratio = (larger - smaller) / smaller
    log_part = np.where(ratio == 0, 1.0, np.log1p(ratio) / np.where(ratio == 0, 1.0, ratio)) / smaller
    inside = ((s > low) & (s < high)).astype(float)
    clip_part = np.where(a == b, inside[:, None], (c[:, None] - c) / np.where(a == b, 1.0, a - b))
    return log_part * clip_part


def truth(u, s, g, low, high):
    """Value and gradient for one matrix U diag(s) U^T and one incoming gradient g."""
    value = np.matmul(u * np.log(np.clip(s, low, high)), u.T)
    rotated = u.T @ (0.5 * (g + g.T)) @ u
    return value, u @ (divided_differences(s, low, high) * rotated) @ u.T


def evaluated(function, x, g):
    """Value and gradient of `function` by TensorFlow in x's dtype."""
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = tf.constant(x)
        value = function(inputs)
        return session.run([value, tf.gradients(value, inputs, grad_ys=tf.constant(g.astype(x.dtype)))[0]])


def errors(function, spectrum, dtype, low=0.0, high=np.inf):
    """Worst relative errors of value and gradient."""
    rng = np.random.RandomState(len(spectrum))
    frames, x = matrices(spectrum, rng)
    g = rng.standard_normal(x.shape)
    spectra = [spectrum] * MATRICES
    if dtype == np.float32:
        spectra, frames = np.linalg.eigh(x.astype(dtype).astype(np.float64))
    expected = [truth(u, s, g_b, low, high) for u, s, g_b in zip(frames, spectra, g.astype(dtype).astype(np.float64))]
    got = evaluated(function, x.astype(dtype), g)
    value = max(np.abs(a - b).max() / max(np.abs(b).max(), 1) for a, (b, _) in zip(got[0], expected))
    gradient = max(np.abs(a - b).max() / np.abs(b).max() for a, (_, b) in zip(got[1], expected))
    return f"{value:.0e} / {gradient:.0e}"


def print_table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def logarithm_rows():
    for size in SIZES:
        for condition in CONDITIONS:
            spectrum = log_spaced(size, condition)
            lowest = min(0.3, spectrum[0] / np.sqrt(np.sum(spectrum**2)))
            methods = [spd.logeig, lambda x, lowest=lowest: spd.log_iterative(x, lowest)]
            yield [str(size), f"{condition:.0e}"] + [
                "" if dtype == np.float32 and condition > FLOAT32_CONDITION else errors(method, spectrum, dtype)
                for dtype in (np.float64, np.float32)
                for method in methods
            ]


def special_rows():
    for size in SIZES:
        for name, spectrum in special_spectra(size):
            yield [str(size), name] + [
                errors(spd.log_reeig, spectrum, dtype, spd.REEIG_EPSILON, spd.REEIG_MAXIMUM)
                for dtype in (np.float64, np.float32)
            ]


def flattening_rows():
    """The default log_iterative of diag(1, x): its second eigenvalue and that one's slope."""
    x = np.stack([np.diag([np.sqrt(1 - share**2), share]) for share in SHARES])
    value, slope = evaluated(spd.log_iterative, x, np.broadcast_to(np.diag([0.0, 1.0]), x.shape))
    for i, share in enumerate(SHARES):
        logarithm = f"{np.log(share):.4f}" if share else "-inf"
        yield [
            f"{share:.0e}",
            logarithm,
            f"{value[i, 1, 1]:.4f}",
            f"{1 / share:.4g}" if share else "inf",
            f"{slope[i, 1, 1]:.4g}",
        ]


def stiefel_rows():
    """The largest entry of |W^T W - I| over STEPS steps of a noisy gradient on the network's 256 x 128 weight."""
    for name, optimizer in (
        ("ADAM, rate 0.005", tf.train.AdamOptimizer(0.005, epsilon=0.1)),
        ("MOM, rate 0.1", tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True)),
    ):
        for retraction in spd.RETRACTIONS:
            with tf.Graph().as_default(), tf.Session() as session:
                start = spd.random_orthonormal(np.random.RandomState(0), 256, 128)
                w = tf.get_variable("w", initializer=start, use_resource=True)
                noise = tf.random_normal([256, 128], seed=1)
                train = spd.apply_on_stiefel(optimizer, [(noise, w)], [w], retraction=retraction)
                session.run(tf.global_variables_initializer())
                worst = 0.0
                for _ in range(STEPS):
                    session.run(train)
                    end = session.run(w).astype(np.float64)
                    worst = max(worst, np.abs(end.T @ end - np.eye(128)).max())
            yield [name, retraction, f"{worst:.1e}", f"{np.linalg.norm(end - start):.1f}"]


def main():
    if tf.__version__.startswith("2."):
        tf.disable_v2_behavior()
    tf.logging.set_verbosity(tf.logging.ERROR)
    print(f"TensorFlow {tf.__version__}; each cell: error of the value / of the gradient\n")
    print_table(
        ["size", "condition", "logeig, float64", "log_iterative, float64", "logeig, float32", "log_iterative, float32"],
        logarithm_rows(),
    )
    print_table(["eigenvalue / norm", "log", "log_iterative", "1 / x", "slope of log_iterative"], flattening_rows())
    print_table(["size", "spectrum", "log_reeig, float64", "log_reeig, float32"], special_rows())
    print_table(["optimiser", "retraction", "worst orthogonality error", "distance moved"], stiefel_rows())


if __name__ == "__main__":
    main()
