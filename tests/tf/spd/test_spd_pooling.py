"""Covariance, projected covariance and Gaussian pooling against NumPy and central differences."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import spd
from tests.tf.spd.spd_truth import central_difference, relative_error

RIDGE = 1e-3


def numpy_covariance(features, ridge):
    covariance = np.cov(features.T)
    return covariance + ridge * np.trace(covariance) * np.eye(len(covariance))


def numpy_gaussian(features, ridge):
    mean = features.mean(axis=0)[:, None]
    covariance = numpy_covariance(features, ridge)
    return np.block([[covariance + mean @ mean.T, mean], [mean.T, np.ones([1, 1])]])


@pytest.fixture
def features():
    rng = np.random.RandomState(0)
    return 3 + rng.standard_normal(size=(4, 9, 6)) * np.logspace(-1, 1, 6)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-4)])
@pytest.mark.parametrize("pool, truth", [(spd.covariance_pool, numpy_covariance), (spd.gaussian_pool, numpy_gaussian)])
def test_pooling_agrees_with_numpy(evaluate, features, pool, truth, dtype, tolerance):
    pooled = evaluate(pool(tf.constant(features.astype(dtype)), RIDGE))
    assert pooled.dtype == dtype
    for got, image in zip(pooled, features):
        assert relative_error(got, truth(image, RIDGE)) < tolerance


@pytest.mark.parametrize("pool, truth", [(spd.covariance_pool, numpy_covariance), (spd.gaussian_pool, numpy_gaussian)])
def test_pooling_gradient_agrees_with_central_differences(value_and_gradients, features, pool, truth):
    rng = np.random.RandomState(1)
    size = truth(features[0], RIDGE).shape[0]
    g, direction = rng.standard_normal(size=(4, size, size)), rng.standard_normal(size=features.shape)
    _, (gradient,) = value_and_gradients(lambda f: pool(f, RIDGE), [features], g)

    def inner(f):
        return sum(np.sum(g_image * truth(image, RIDGE)) for g_image, image in zip(g, f))

    expected = central_difference(inner, features, direction, 1e-3)
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-9)


def test_gaussian_pool_keeps_the_determinant_and_is_positive_definite(evaluate, features):
    gaussian, covariance = evaluate([spd.gaussian_pool(features), spd.covariance_pool(features)])
    np.testing.assert_allclose(np.linalg.det(gaussian), np.linalg.det(covariance), rtol=1e-8)
    assert np.linalg.eigvalsh(gaussian).min() > 0


@pytest.mark.parametrize("frame", ["orthonormal", "skewed"])
def test_projected_covariance_is_bimap_of_covariance(value_and_gradients, features, frame):
    rng = np.random.RandomState(2)
    w = spd.random_orthonormal(rng, 6, 4, np.float64) if frame == "orthonormal" else rng.standard_normal(size=(6, 4))
    g = rng.standard_normal(size=(4, 4, 4))
    value, gradients = value_and_gradients(lambda f, w: spd.projected_covariance(f, w, RIDGE), [features, w], g)
    expected, expected_gradients = value_and_gradients(
        lambda f, w: spd.bimap(spd.covariance_pool(f, RIDGE), w), [features, w], g
    )
    assert relative_error(value, expected) < 1e-12
    for gradient, expected_gradient in zip(gradients, expected_gradients):
        assert relative_error(gradient, expected_gradient) < 1e-12


def test_projected_covariance_never_forms_the_large_matrix(features):
    w = tf.placeholder(tf.float32, [6, 4])
    f = tf.placeholder(tf.float32, [4, 9, 6])
    tf.gradients(spd.projected_covariance(f, w), [f, w])
    shapes = [tensor.shape for op in tf.get_default_graph().get_operations() for tensor in op.outputs]
    assert not any(shape.ndims == 3 and shape.as_list()[1:] == [6, 6] for shape in shapes)


def test_the_ridge_bounds_the_condition_number_when_positions_are_few(evaluate):
    features = np.random.RandomState(3).standard_normal(size=(2, 3, 8))
    eigenvalues = np.linalg.eigvalsh(evaluate(spd.covariance_pool(features, 1e-4)))
    assert np.all(eigenvalues[:, 0] > 0)
    assert np.all(eigenvalues[:, -1] / eigenvalues[:, 0] < 1.01e4)


@pytest.mark.parametrize("shape", [[None, 9, 6], [None, None, 6]])
def test_unknown_sizes(evaluate, features, shape):
    f, w = tf.placeholder(tf.float64, shape), np.linalg.qr(np.random.RandomState(4).randn(6, 4))[0]
    outputs = [spd.covariance_pool(f), spd.projected_covariance(f, w), spd.gaussian_pool(f)]
    assert [output.shape.as_list() for output in outputs] == [[None, 6, 6], [None, 4, 4], [None, 7, 7]]
    gradients = tf.gradients(outputs, f)
    for batch in (1, 3):
        got = evaluate(outputs + gradients, {f: features[:batch]})
        assert [len(array) for array in got] == [batch] * 4
        np.testing.assert_allclose(got[0], evaluate(spd.covariance_pool(features[:batch])), rtol=1e-12)


def test_constant_features_give_zero_and_a_finite_gradient(value_and_gradients):
    features = np.full([2, 5, 3], 7.0, np.float32)
    value, (gradient,) = value_and_gradients(spd.covariance_pool, [features], np.ones([2, 3, 3]))
    assert not value.any() and not gradient.any()


@pytest.mark.parametrize(
    "given, message",
    [
        (np.zeros([2, 1, 3], np.float32), "at least two positions"),
        (np.zeros([2, 5], np.float32), "of shape .B, P, C., got .2, 5."),
        (np.zeros([2, 5, 3], np.float16), "expected features to be float32 or float64, got float16"),
    ],
)
def test_unfit_features_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        spd.covariance_pool(given)


def test_a_weight_of_the_wrong_height_is_refused():
    with pytest.raises(ValueError, match=r"w to be float32 of shape \[6, m\] .* got float32 of shape \(5, 4\)"):
        spd.projected_covariance(np.zeros([2, 9, 6], np.float32), np.zeros([5, 4], np.float32))
