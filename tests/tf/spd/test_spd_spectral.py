"""ReEig, LogEig and their composition: values and gradients against mpmath, SciPy and central differences."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow.compat.v1 as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from covpool import spd
from covpool.spd.constants import SERIES_RADIUS, SERIES_TERMS, logarithm_floor
from tests.tf.spd.spd_truth import (
    assemble,
    central_difference,
    log_of_clip,
    mpmath_directional,
    only_clip,
    orthogonal,
    relative_error,
    spectral_truth,
)

LOW, HIGH = spd.REEIG_EPSILON, spd.REEIG_MAXIMUM
UNBOUNDED = (0.0, np.finfo(float).max)
LAYERS = {
    "logeig": (spd.logeig, log_of_clip(*UNBOUNDED)),
    "log_reeig": (spd.log_reeig, log_of_clip(LOW, HIGH)),
    "reeig": (spd.reeig, only_clip(LOW, HIGH)),
}


def well_conditioned_spectra(size):
    """Spectra of condition number up to 1e6, within ReEig's bounds, that defeat a careless divided difference."""
    i = np.arange(size)
    for condition in (1e2, 1e4, 1e6):
        yield np.logspace(np.log10(2) - np.log10(condition) + 2, np.log10(2) + 2, size)
    yield np.full(size, 0.37)
    yield np.where(i < size // 2, 0.02, 5.0)
    base = np.logspace(-3, 1, size)
    pairs = base[i // 2 * 2]
    for gap in (0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3):
        yield pairs * (1 + gap * (i % 2))
        yield pairs + gap * (i % 2)
    for gap in (1e-9, 1e-6, 1e-3):
        yield 1 + gap * i
    yield 0.01 * (1 + 0.25 * i / size)


def clipped_spectra(size):
    """Spectra with eigenvalues beyond ReEig's bounds, none within 1 % of them."""
    i = np.arange(size)
    base = np.logspace(-3, 1, size)
    yield np.where(i < size // 2, 0.5 * LOW, base)
    yield np.where(i < (size + 1) // 2, 0.0, base)
    yield np.where(i < size // 2, LOW * np.logspace(-6, -0.01, size), base)
    yield np.where(i < size // 2, 0.98 * LOW, 1.02 * LOW)
    yield np.where(i < size // 2, 0.02 * HIGH, HIGH * (1.02 + i))
    yield np.zeros(size)
    yield np.full(size, 2 * HIGH)
    yield -base


def case_batch(size, spectra, seed=0):
    """Frames, spectra, matrices, incoming gradients; each spectrum in a random frame and, exactly, on a diagonal."""
    rng = np.random.RandomState(seed + size)
    spectra = [spectrum for spectrum in spectra for _ in range(2)]
    frames = [np.eye(size) if i % 2 else orthogonal(rng, size) for i in range(len(spectra))]
    x = np.stack([assemble(u, s) for u, s in zip(frames, spectra)])
    return frames, spectra, x, rng.standard_normal(size=x.shape)


def check_against_truth(value_and_gradients, name, size, spectra, tolerance):
    layer, functions = LAYERS[name]
    frames, spectra, x, g = case_batch(size, spectra)
    values, (gradients,) = value_and_gradients(layer, [x], g)
    for value, gradient, u, s, g_matrix in zip(values, gradients, frames, spectra, g):
        expected_value, expected_gradient = spectral_truth(u, s, g_matrix, functions)
        assert np.abs(value - expected_value).max() < tolerance * max(1, np.abs(expected_value).max()), s
        assert np.abs(gradient - expected_gradient).max() <= tolerance * np.abs(expected_gradient).max(), s


@pytest.mark.parametrize("size", [2, 3, 8, 32, 128])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_float64_agrees_with_mpmath(value_and_gradients, name, size):
    spectra = list(well_conditioned_spectra(size))
    if size == 128:  # 16,384 entries of K at 50 digits each: the hardest and the commonest ones do.
        spectra = spectra[2:4] + spectra[7:8]
    check_against_truth(value_and_gradients, name, size, spectra, 1e-9)


@pytest.mark.parametrize("size", [2, 8, 64])
@pytest.mark.parametrize("name", ["log_reeig", "reeig"])
def test_float64_agrees_with_mpmath_beyond_the_bounds(value_and_gradients, name, size):
    spectra = list(clipped_spectra(size))
    check_against_truth(value_and_gradients, name, size, spectra if size < 64 else spectra[:3], 1e-8)


@pytest.fixture(scope="module")
def log_reeig_of_six_by_six():
    """x, g -> value, gradient, from one graph: building it is what costs."""
    with tf.Graph().as_default(), tf.Session() as session:
        x, g = tf.placeholder(tf.float64, [1, 6, 6]), tf.placeholder(tf.float64, [1, 6, 6])
        z = spd.log_reeig(x)
        fetches = [z, tf.gradients(z, x, grad_ys=g)[0]]
        yield lambda x_value, g_value: session.run(fetches, {x: x_value, g: g_value})


@settings(max_examples=40)
@given(
    exponents=st.lists(st.floats(-7, 6), min_size=3, max_size=3),
    gaps=st.lists(st.sampled_from([0, 1e-12, 1e-9, 1e-6, 1e-3, 1]), min_size=3, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_float64_agrees_with_mpmath_on_any_spectrum(log_reeig_of_six_by_six, exponents, gaps, seed):
    s = np.outer([1, 1], 10 ** np.array(exponents))
    s[1] *= 1 + np.array(gaps)
    s = np.sort(s.reshape(-1))
    assume(np.all(np.abs(s / LOW - 1) > 0.01) and np.all(np.abs(s / HIGH - 1) > 0.01))
    assume(s[-1] / LOW < 1e6 or s[0] > 1e-6 * s[-1])
    rng = np.random.RandomState(seed)
    u, g = orthogonal(rng, len(s)), rng.standard_normal(size=[len(s)] * 2)
    value, gradient = log_reeig_of_six_by_six(assemble(u, s)[None], g[None])
    expected_value, expected_gradient = spectral_truth(u, s, g, log_of_clip(LOW, HIGH))
    # An eigenvalue of size LOW carries the rounding error of the largest one.
    error = 1e-14 * max(10, s[-1] / max(s[0], LOW))
    assert np.abs(value[0] - expected_value).max() < max(1e-12, error)
    scale = max(np.abs(expected_gradient).max(), np.abs(g).max() / max(s[-1], LOW) * 1e-3)
    assert np.abs(gradient[0] - expected_gradient).max() < 1e-6 * scale


@pytest.mark.parametrize(
    "spectrum",
    [
        [0.01, 0.2, 3.0],
        [0.5, 0.5, 0.5],
        [0.3, 0.3 + 1e-9, 2.0],
        [0.3, 0.3, 0.3 + 1e-4],
        [1e-5, 1e-4 * 1.1, 1.0],
        [0.0, 0.0, 1.0],
        [1e-3, 1.0, 2e4],
    ],
    ids=str,
)
def test_gradient_agrees_with_sixty_digit_differences(value_and_gradients, spectrum):
    rng = np.random.RandomState(3)
    x = assemble(orthogonal(rng, 3), spectrum)
    g, direction = rng.standard_normal(size=(3, 3)), assemble(orthogonal(rng, 3), [1.0, -2.0, 0.5])
    _, (gradient,) = value_and_gradients(spd.log_reeig, [x[None]], g[None])
    expected = mpmath_directional(x, direction, g, log_of_clip(LOW, HIGH)[0])
    assert np.sum(gradient[0] * direction) == pytest.approx(expected, rel=1e-8)


def test_gradient_agrees_with_scipys_logarithm_of_a_block_matrix(value_and_gradients):
    rng = np.random.RandomState(4)
    x = assemble(orthogonal(rng, 6), np.logspace(-2, 1, 6))
    g, direction = rng.standard_normal(size=(6, 6)), assemble(orthogonal(rng, 6), np.arange(6) - 2.0)
    value, (gradient,) = value_and_gradients(spd.logeig, [x[None]], g[None])
    blocks = scipy.linalg.logm(np.block([[x, direction], [np.zeros([6, 6]), x]]))
    assert relative_error(value[0], blocks[:6, :6]) < 1e-10
    assert np.sum(gradient[0] * direction) == pytest.approx(np.sum(g * blocks[:6, 6:]), rel=1e-10)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_gradient_agrees_with_central_differences_of_the_value(evaluate, value_and_gradients, name):
    layer = LAYERS[name][0]
    rng = np.random.RandomState(5)
    spectrum = [0.2, 0.7, 0.7, 1.0, 2.0] if name == "logeig" else [1e-6, 0.2, 0.7, 0.7, 3e4 * (name == "reeig") + 1]
    x, g = assemble(orthogonal(rng, 5), spectrum), rng.standard_normal(size=(5, 5))
    direction = assemble(orthogonal(rng, 5), [1.0, -1.0, 0.3, 0.2, -0.6])
    _, (gradient,) = value_and_gradients(layer, [x[None]], g[None])
    steps = np.array([-2, -1, 1, 2]) * 1e-5
    values = evaluate(layer(x + steps[:, None, None] * direction))
    lookup = {step: value for step, value in zip(steps, values)}
    expected = central_difference(lambda t: np.sum(g * lookup[t]), 0.0, 1.0, 1e-5)
    assert np.sum(gradient[0] * direction) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [8, 128])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_float32_agrees_with_float64_up_to_condition_1e4(value_and_gradients, name, size):
    layer = LAYERS[name][0]
    spectra = [
        np.logspace(-3, 1, size),
        np.logspace(-2, 1, size)[np.arange(size) // 2 * 2],
        np.full(size, 0.4),
        0.2 + 1e-5 * np.arange(size),
    ]
    if name != "logeig":
        spectra.append(np.where(np.arange(size) < size // 2, 0.0, np.logspace(-2, 0, size)))
    _, _, x, g = case_batch(size, spectra)
    x, g = x.astype(np.float32), g.astype(np.float32)
    got = value_and_gradients(layer, [x], g)
    expected = value_and_gradients(layer, [x.astype(np.float64)], g)
    assert got[0].dtype == got[1][0].dtype == np.float32
    for i in range(len(x)):
        assert np.abs(got[0][i] - expected[0][i]).max() < 1e-3 * max(1e-2, np.abs(expected[0][i]).max())
        assert relative_error(got[1][0][i], expected[1][0][i]) < 1e-3


def test_log_reeig_is_logeig_of_reeig(value_and_gradients):
    _, _, x, g = case_batch(8, list(well_conditioned_spectra(8)) + list(clipped_spectra(8))[:4])
    value, (gradient,) = value_and_gradients(spd.log_reeig, [x], g)
    expected, (expected_gradient,) = value_and_gradients(lambda x: spd.logeig(spd.reeig(x)), [x], g)
    for i in range(len(x)):
        assert np.abs(value[i] - expected[i]).max() < 1e-9
        assert np.abs(gradient[i] - expected_gradient[i]).max() <= 1e-7 * np.abs(gradient[i]).max()


def test_the_exponential_of_the_logarithm_is_the_matrix(evaluate):
    x = assemble(orthogonal(np.random.RandomState(6), 7), np.logspace(-3, 2, 7))
    np.testing.assert_allclose(scipy.linalg.expm(evaluate(spd.logeig(x[None]))[0]), x, atol=1e-10)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_slightly_asymmetric_input_counts_by_its_symmetric_part(value_and_gradients, name):
    rng = np.random.RandomState(7)
    x = assemble(orthogonal(rng, 6), np.logspace(-2, 1, 6))[None]
    g, asymmetry = rng.standard_normal(size=(1, 6, 6)), np.triu(1e-4 * rng.standard_normal(size=(6, 6)), 1)
    value, (gradient,) = value_and_gradients(LAYERS[name][0], [x + asymmetry - asymmetry.T], g)
    expected, (expected_gradient,) = value_and_gradients(LAYERS[name][0], [x], g)
    np.testing.assert_allclose(value, expected, atol=1e-10)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-8 * np.abs(gradient).max())
    np.testing.assert_allclose(gradient, gradient.swapaxes(1, 2), atol=1e-14 * np.abs(gradient).max())


def extreme_matrices(dtype, size=16):
    """Condition numbers to 1e12, rank deficiency, the zero matrix, asymmetry, negative and huge eigenvalues."""
    rng = np.random.RandomState(8)
    spectra = [np.logspace(-exponent, 0, size) for exponent in (6, 8, 10, 12)]
    spectra += [np.eye(size)[0], np.zeros(size), -np.logspace(-8, -4, size), np.full(size, 1e6), np.full(size, 1e-12)]
    x = np.stack([assemble(orthogonal(rng, size), s) for s in spectra])
    x = np.concatenate([x, x + 1e-5 * rng.standard_normal(size=x.shape), np.stack([np.diag(s) for s in spectra])])
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_extreme_input_stays_finite(value_and_gradients, name, dtype):
    x = extreme_matrices(dtype)
    value, (gradient,) = value_and_gradients(LAYERS[name][0], [x], np.ones_like(x))
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(gradient))
    if name != "reeig":
        low, high = (LOW, HIGH) if name == "log_reeig" else (logarithm_floor(tf.as_dtype(dtype)), 2e6)
        eigenvalues = np.linalg.eigvalsh(value.astype(np.float64))
        assert np.all(eigenvalues > np.log(low) - 1e-2) and np.all(eigenvalues < np.log(high) + 1e-2)


@pytest.mark.parametrize("dtype, floor", [(np.float32, 2.0**-46), (np.float64, 2.0**-104)])
def test_logeig_has_its_documented_floor(value_and_gradients, dtype, floor):
    x = np.stack([np.zeros([3, 3]), np.diag([1.0, floor / 2, 2 * floor])]).astype(dtype)
    g = np.broadcast_to(np.eye(3, dtype=dtype), x.shape)
    value, (gradient,) = value_and_gradients(spd.logeig, [x], g)
    np.testing.assert_allclose(value[0], np.log(floor) * np.eye(3), rtol=1e-6)
    np.testing.assert_array_equal(gradient[0], np.zeros([3, 3]))
    np.testing.assert_allclose(np.diag(value[1]), [0, np.log(floor), np.log(2 * floor)], rtol=1e-6)
    np.testing.assert_allclose(np.diag(gradient[1]), [1, 0, 1 / (2 * floor)], rtol=1e-5)


def test_an_eigenvalue_at_a_bound_counts_as_clipped(value_and_gradients):
    x = np.diag([0.5, 1.0, 2.0, 3.0])[None]
    _, (gradient,) = value_and_gradients(lambda x: spd.reeig(x, 0.5, 3.0), [x], np.eye(4)[None])
    np.testing.assert_array_equal(np.diag(gradient[0]), [0, 1, 1, 0])


@pytest.mark.parametrize("dtype", sorted(SERIES_TERMS))
def test_the_series_of_the_logarithm_has_enough_terms_and_the_quotient_enough_digits(dtype):
    terms = SERIES_TERMS[dtype]
    assert SERIES_RADIUS ** (2 * terms) / (2 * terms + 1) < np.finfo(dtype).eps
    assert 2 * np.arctanh(SERIES_RADIUS) > 0.25


def test_one_eigendecomposition_serves_both_passes():
    x = tf.placeholder(tf.float32, [None, 4, 4])
    z = spd.log_reeig(x)
    assert z.shape.as_list() == [None, 4, 4]
    tf.gradients(z, x)
    types = [op.type for op in tf.get_default_graph().get_operations()]
    assert types.count("SelfAdjointEigV2") == 1


def test_the_spectrum_is_that_before_clipping_and_passes_no_gradient(evaluate):
    x = tf.constant(assemble(orthogonal(np.random.RandomState(9), 4), [1e-6, 1e-2, 1.0, 1e5])[None])
    z, s = spd.log_reeig_with_spectrum(x)
    np.testing.assert_allclose(evaluate(s)[0], [1e-6, 1e-2, 1.0, 1e5], rtol=1e-4)
    assert tf.gradients(s, x) == [None]
    alone, beside = evaluate([tf.gradients(z, x)[0], tf.gradients([z, s], x)[0]])
    np.testing.assert_array_equal(alone, beside)


def test_a_batch_of_any_size_and_matrices_of_one_entry(evaluate):
    x = tf.placeholder(tf.float64, [None, 1, 1])
    z = spd.log_reeig(x)
    fetches = [z, tf.gradients(z, x)[0]]
    value, gradient = evaluate(fetches, {x: [[[2.0]], [[1e-9]]]})
    np.testing.assert_allclose(value[:, 0, 0], [np.log(2), np.log(LOW)])
    np.testing.assert_allclose(gradient[:, 0, 0], [0.5, 0])
    assert evaluate(fetches, {x: np.zeros([0, 1, 1])})[0].shape == (0, 1, 1)


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (2, 1), (1, 1)])
def test_bounds_out_of_order_are_refused(bounds):
    with pytest.raises(ValueError, match="expected 0 < epsilon < maximum, got epsilon"):
        spd.log_reeig(np.eye(2)[None], *bounds)
