"""The logarithm by matrix products: against mpmath where it holds, and what it does where it does not."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from covpool import spd
from covpool.spd.schulz import scaled_steps
from tests.tf.spd.spd_truth import assemble, log_of_clip, mpmath_directional, orthogonal, relative_error, spectral_truth

LOGARITHM = log_of_clip(0.0, np.finfo(float).max)


def resolved_spectra(size):
    """Spectra whose smallest eigenvalue is 1e-4 of the Frobenius norm or more, as the ridge makes them."""
    i = np.arange(size)
    for scale in (1e-6, 1.0, 1e6):
        s = np.logspace(-4, 0, size)
        yield scale * (s + 1e-4 * s.sum())
    yield np.full(size, 0.37)
    yield np.where(i == 0, 3.0, 3.1e-4)
    base = np.logspace(-2.5, 0, size)
    for gap in (0, 1e-9, 1e-6, 1e-3):
        yield base[i // 2 * 2] * (1 + gap * (i % 2))


@pytest.mark.parametrize("size", [2, 48])
def test_float64_agrees_with_mpmath(value_and_gradients, size):
    rng = np.random.RandomState(size)
    spectra = list(resolved_spectra(size))
    frames = [orthogonal(rng, size) for _ in spectra]
    x = np.stack([assemble(u, s) for u, s in zip(frames, spectra)])
    g = rng.standard_normal(size=x.shape)
    values, (gradients,) = value_and_gradients(spd.log_iterative, [x], g)
    for value, gradient, u, s, g_matrix in zip(values, gradients, frames, spectra, g):
        expected_value, expected_gradient = spectral_truth(u, s, g_matrix, LOGARITHM)
        assert np.abs(value - expected_value).max() < 1e-10
        assert relative_error(gradient, expected_gradient) < 1e-8


@pytest.fixture(scope="module")
def logarithm_of_four_by_four():
    """x, g -> value, gradient, from one graph: building it is what costs."""
    with tf.Graph().as_default(), tf.Session() as session:
        x, g = tf.placeholder(tf.float64, [1, 4, 4]), tf.placeholder(tf.float64, [1, 4, 4])
        z = spd.log_iterative(x)
        fetches = [z, tf.gradients(z, x, grad_ys=g)[0]]
        yield lambda x_value, g_value: session.run(fetches, {x: x_value, g: g_value})


@settings(max_examples=40)
@given(
    exponents=st.lists(st.floats(-3.5, 0), min_size=4, max_size=4),
    scale=st.floats(-8, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_float64_agrees_with_mpmath_on_any_resolved_spectrum(logarithm_of_four_by_four, exponents, scale, seed):
    s = 10 ** (scale + np.array(exponents))
    rng = np.random.RandomState(seed)
    u, g = orthogonal(rng, len(s)), rng.standard_normal(size=[len(s)] * 2)
    value, gradient = logarithm_of_four_by_four(assemble(u, s)[None], g[None])
    expected_value, expected_gradient = spectral_truth(u, s, g, LOGARITHM)
    assert np.abs(value[0] - expected_value).max() < 1e-10
    assert np.abs(gradient[0] - expected_gradient).max() < 1e-8 * max(
        np.abs(expected_gradient).max(), np.abs(g).max() / s.max()
    )


def test_gradient_agrees_with_sixty_digit_differences(logarithm_of_four_by_four):
    rng = np.random.RandomState(3)
    x = assemble(orthogonal(rng, 4), [1e-3, 1e-3 + 1e-9, 0.1, 2.0])
    g, direction = rng.standard_normal(size=(4, 4)), assemble(orthogonal(rng, 4), [1.0, -2.0, 0.5, 0.7])
    _, gradient = logarithm_of_four_by_four(x[None], g[None])
    expected = mpmath_directional(x, direction, g, LOGARITHM[0])
    assert np.sum(gradient[0] * direction) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("size", [8, 128])
def test_float32_agrees_with_eigh_in_float64(value_and_gradients, size):
    rng = np.random.RandomState(size)
    x = np.stack([assemble(orthogonal(rng, size), s) for s in list(resolved_spectra(size))[1:]]).astype(np.float32)
    g = rng.standard_normal(size=x.shape).astype(np.float32)
    got = value_and_gradients(spd.log_iterative, [x], g)
    expected = value_and_gradients(spd.logeig, [x.astype(np.float64)], g)
    assert got[0].dtype == got[1][0].dtype == np.float32
    for i in range(len(x)):
        assert relative_error(got[0][i], expected[0][i]) < 1e-3
        assert relative_error(got[1][0][i], expected[1][0][i]) < 1e-3


def test_it_agrees_with_log_reeig_on_pooled_features(value_and_gradients):
    """The network's own case: 144 positions, rectified features, the ridge; trace above 1, so that eigh never clips."""
    rng = np.random.RandomState(11)
    features = np.maximum(rng.standard_normal(size=(4, 144, 32)) @ rng.standard_normal(size=(32, 32)), 0)
    w = spd.random_orthonormal(rng, 32, 16, np.float64)
    g = rng.standard_normal(size=(4, 16, 16))
    results = [
        value_and_gradients(lambda f, w, log=log: log(spd.projected_covariance(f, w)), [features, w], g)
        for log in (spd.log_iterative, spd.log_reeig)
    ]
    assert relative_error(results[0][0], results[1][0]) < 1e-12
    for gradient, expected in zip(*(gradients for _, gradients in results)):
        assert relative_error(gradient, expected) < 1e-10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_below_lowest_it_flattens_out(value_and_gradients, dtype):
    shares = np.concatenate([[0], np.logspace(-9, -0.2, 200)])
    x = np.stack([np.diag([np.sqrt(1 - share**2), share]) for share in shares]).astype(dtype)
    g = np.broadcast_to(np.diag([0.0, 1.0]), x.shape)
    value, (slope,) = value_and_gradients(spd.log_iterative, [x], g)
    value, slope = value[:, 1, 1], slope[:, 1, 1]
    resolved = shares >= spd.RIDGE
    assert np.abs(value[resolved] - np.log(shares[resolved])).max() < (2e-3 if dtype == np.float32 else 1e-9)
    assert np.all(np.diff(value) > -1e-6) and np.all(slope > 0)
    assert value[0] == pytest.approx(np.log(spd.RIDGE) - 3.1, abs=0.3)
    assert slope.max() < (16 if dtype == np.float32 else 32) / spd.RIDGE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_input_stays_finite(value_and_gradients, dtype):
    rng = np.random.RandomState(8)
    spectra = [np.logspace(-exponent, 0, 16) for exponent in (6, 8, 10, 12)]
    spectra += [np.eye(16)[0], np.zeros(16), np.full(16, 1e6), np.full(16, 1e-12)]
    x = np.stack([assemble(orthogonal(rng, 16), s) for s in spectra])
    noise = 1e-6 * np.abs(x).max(axis=(1, 2), keepdims=True) * rng.standard_normal(size=x.shape)
    x = np.concatenate([x, x + noise]).astype(dtype)
    value, (gradient,) = value_and_gradients(spd.log_iterative, [x], np.ones_like(x))
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(gradient))
    np.testing.assert_allclose(gradient, gradient.swapaxes(1, 2), atol=1e-4 * np.abs(gradient).max())


def test_the_graph_holds_matrix_products_only():
    x = tf.placeholder(tf.float32, [None, 8, 8])
    z = spd.log_iterative(x)
    assert z.shape.as_list() == [None, 8, 8]
    products = [op.type for op in tf.get_default_graph().get_operations() if op.type.startswith("BatchMatMul")]
    assert len(products) == 31
    tf.gradients(z, x)
    types = {op.type for op in tf.get_default_graph().get_operations()}
    assert not types & {"SelfAdjointEigV2", "Svd", "Qr", "Cholesky", "MatrixInverse", "MatrixSolve"}


@pytest.mark.parametrize("lowest", [0.0, 1e-7, 0.4, 1.0])
def test_a_share_that_float32_cannot_resolve_is_refused(lowest):
    with pytest.raises(ValueError, match=r"must be a share of the norm in \[9.5e-07, 0.4\) for float32, got"):
        spd.log_iterative(np.eye(2, dtype=np.float32)[None], lowest)


@pytest.mark.parametrize("lowest", [1e-8, 1e-4, 1e-2, 0.3, 0.9])
def test_scaled_steps_bring_the_whole_interval_to_the_target(lowest):
    steps, reached = scaled_steps(lowest, 0.95)
    values = np.linspace(lowest, 1, 100001)
    for a, r in steps:
        values = a * values * (1 - r * values**2)
    assert 0.95 <= reached <= values.min() + 1e-12 and values.max() <= 1 + 1e-12
