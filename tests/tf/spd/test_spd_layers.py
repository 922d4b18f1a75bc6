"""BiMap and the two vectorisations against NumPy."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from covpool import spd
from tests.tf.spd.spd_truth import central_difference, relative_error


def symmetric(rng, *shape):
    x = rng.standard_normal(size=shape)
    return x + x.swapaxes(-1, -2)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_bimap_agrees_with_numpy_even_for_asymmetric_input(evaluate, dtype, tolerance):
    rng = np.random.RandomState(0)
    x, w = rng.standard_normal(size=(3, 6, 6)), rng.standard_normal(size=(6, 4))
    got = evaluate(spd.bimap(tf.constant(x.astype(dtype)), tf.constant(w.astype(dtype))))
    assert relative_error(got, w.T @ x @ w) < tolerance


def test_bimap_gradients_agree_with_central_differences(value_and_gradients):
    rng = np.random.RandomState(1)
    arrays = [rng.standard_normal(size=(3, 6, 6)), rng.standard_normal(size=(6, 4))]
    directions = [rng.standard_normal(size=array.shape) for array in arrays]
    g = rng.standard_normal(size=(3, 4, 4))
    _, gradients = value_and_gradients(spd.bimap, arrays, g)
    x, w = arrays
    expected = [
        central_difference(lambda x: np.sum(g * (w.T @ x @ w)), x, directions[0], 1e-2),
        central_difference(lambda w: np.sum(g * (w.T @ x @ w)), w, directions[1], 1e-2),
    ]
    for gradient, direction, truth in zip(gradients, directions, expected):
        assert np.sum(gradient * direction) == pytest.approx(truth, rel=1e-9)


def test_bimap_keeps_eigenvalues_within_those_of_its_input(evaluate):
    rng = np.random.RandomState(2)
    x = symmetric(rng, 5, 8, 8)
    inner = np.linalg.eigvalsh(evaluate(spd.bimap(x, spd.random_orthonormal(rng, 8, 5, np.float64))))
    outer = np.linalg.eigvalsh(x)
    assert np.all(inner[:, 0] >= outer[:, 0] - 1e-12) and np.all(inner[:, -1] <= outer[:, -1] + 1e-12)


@settings(max_examples=15)
@given(size=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
def test_vectorisations_keep_inner_products(size, seed):
    rng = np.random.RandomState(seed)
    x, y = symmetric(rng, 2, size, size), symmetric(rng, 2, size, size)
    with tf.Graph().as_default(), tf.Session() as session:
        for mode, length in (("full", size * size), ("upper", size * (size + 1) // 2)):
            a, b = session.run([spd.vectorise(x, mode), spd.vectorise(y, mode)])
            assert a.shape == (2, length)
            np.testing.assert_allclose(np.sum(a * b, axis=1), np.sum(x * y, axis=(1, 2)), atol=1e-12 * size**2)


def test_full_is_row_by_row_and_upper_is_the_scaled_triangle(evaluate):
    x = np.array([[[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]])
    full, upper = evaluate([spd.vectorise(x), spd.vectorise(x, "upper")])
    np.testing.assert_array_equal(full[0], [1, 2, 3, 2, 4, 5, 3, 5, 6])
    np.testing.assert_allclose(upper[0], [1, 2 * 2**0.5, 3 * 2**0.5, 4, 5 * 2**0.5, 6], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_upper_gradient_is_the_adjoint(value_and_gradients, dtype):
    rng = np.random.RandomState(3)
    x, g = rng.standard_normal(size=(2, 4, 4)).astype(dtype), rng.standard_normal(size=(2, 10)).astype(dtype)
    value, (gradient,) = value_and_gradients(lambda x: spd.vectorise(x, "upper"), [x], g)
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(gradient, gradient.swapaxes(1, 2))
    # The layer is linear, so <g, vec x> = <gradient, x> for every x, an asymmetric one too.
    np.testing.assert_allclose(np.sum(g * value, axis=1), np.sum(gradient * x, axis=(1, 2)), rtol=1e-5)


@settings(max_examples=15)
@given(size=st.integers(1, 7), outputs=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_upper_weights_give_the_same_products(size, outputs, seed):
    rng = np.random.RandomState(seed)
    x, weights = symmetric(rng, 2, size, size), rng.standard_normal(size=(size * size, outputs))
    with tf.Graph().as_default(), tf.Session() as session:
        upper = session.run(spd.vectorise(x, "upper"))
    found = upper @ spd.upper_weights(weights)
    np.testing.assert_allclose(found, x.reshape(2, -1) @ weights, atol=1e-13 * size**2)
    assert spd.upper_weights(weights.astype(np.float32)).dtype == np.float32


def test_upper_weights_want_a_row_for_each_entry():
    with pytest.raises(ValueError, match=r"expected weights with n\^2 rows, .* got shape \(8, 2\)"):
        spd.upper_weights(np.zeros([8, 2]))


@pytest.mark.parametrize("mode, length", [("full", 16), ("upper", 10)])
def test_unknown_batch(mode, length):
    assert spd.vectorise(tf.placeholder(tf.float32, [None, 4, 4]), mode).shape.as_list() == [None, length]
    assert spd.vectorise(tf.placeholder(tf.float32, [3, 4, 4]), mode).shape.as_list() == [3, length]


def test_an_unknown_mode_and_an_oblong_matrix_are_refused():
    with pytest.raises(ValueError, match="mode must be one of full, upper, got 'lower'"):
        spd.vectorise(np.zeros([1, 2, 2]), "lower")
    with pytest.raises(ValueError, match="to be square matrices"):
        spd.vectorise(np.zeros([1, 2, 3]))
    with pytest.raises(ValueError, match="to be square matrices"):
        spd.bimap(tf.placeholder(tf.float32, [1, None, 3]), np.zeros([3, 2], np.float32))
