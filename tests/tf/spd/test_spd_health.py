"""Health numbers against NumPy, and the op types that an accelerator must know."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import spd
from tests.tf.spd.spd_truth import assemble, orthogonal


def test_orthogonality_error_is_the_largest_entry(evaluate):
    w = np.eye(5)[:, :3]
    w[1, 0] = 0.01
    assert evaluate(spd.orthogonality_error(tf.constant(w))) == pytest.approx(0.01)
    w[2, 2] = 0.9
    assert evaluate(spd.orthogonality_error(tf.constant(w))) == pytest.approx(0.19)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spectrum_health_counts_clipped_eigenvalues_and_gives_condition_numbers(evaluate, dtype):
    spectra = np.array([[1e-5, 1e-2, 1e-1, 1.0], [1e-2, 1e-1, 1.0, 10.0], [1e-1, 1.0, 1e1, 2e4], [1.0, 1.0, 1.0, 1.0]])
    health = evaluate(spd.spectrum_health(tf.constant(spectra.astype(dtype))))
    assert health.clipped_share == pytest.approx(2 / 16)
    assert health.condition == pytest.approx((1e5 * 1e3 * 2e5 * 1) ** 0.25, rel=1e-4)
    assert health.worst_condition == pytest.approx(2e5, rel=1e-4)


def test_spectrum_health_of_the_layers_own_eigenvalues(evaluate):
    rng = np.random.RandomState(0)
    x = np.stack([assemble(orthogonal(rng, 4), [1e-6, 1e-3, 0.1, 1.0]), assemble(orthogonal(rng, 4), [1, 2, 3, 4])])
    _, eigenvalues = spd.log_reeig_with_spectrum(tf.constant(x))
    health = evaluate(spd.spectrum_health(eigenvalues))
    assert health.clipped_share == pytest.approx(1 / 8)
    assert health.condition == pytest.approx(2e3, rel=1e-6)
    assert health.worst_condition == pytest.approx(1e6, rel=1e-6)


def test_an_eigenvalue_at_a_bound_counts_as_clipped(evaluate):
    health = evaluate(spd.spectrum_health(tf.constant([[0.5, 1.0, 2.0, 4.0, 8.0]]), epsilon=0.5, maximum=8.0))
    assert health.clipped_share == pytest.approx(2 / 5)


def test_rank_deficient_and_zero_matrices_give_finite_numbers(evaluate):
    health = evaluate(spd.spectrum_health(tf.constant([[-1e-7, 0.0, 1.0], [0.0, 0.0, 0.0]])))
    assert np.all(np.isfinite(health)) and health.clipped_share == pytest.approx(5 / 6)


HOST_BOUND = {
    "IsFinite",
    "IsInf",
    "IsNan",
    "MatrixDiagPartV2",
    "MatrixDiagV2",
    "MatrixDiagV3",
    "MatrixDiagPartV3",
    "MatrixSetDiagV2",
    "MatrixSetDiagV3",
    "Unique",
    "UniqueV2",
    "Where",
    "DynamicPartition",
    "DynamicStitch",
    "Einsum",
    "PyFunc",
    "MatrixLogarithm",
    "Complex",
}
"""Op types that Ascend's adapter refuses or leaves to the host."""


@pytest.mark.parametrize("method", ["eigh", "iterative"])
def test_a_training_step_uses_no_host_bound_ops(method):
    features = tf.placeholder(tf.float32, [4, 9, 6])
    w = tf.get_variable("w", initializer=spd.random_orthonormal(np.random.RandomState(0), 6, 4), use_resource=True)
    pooled = spd.projected_covariance(features, w)
    if method == "eigh":
        logarithm, eigenvalues = spd.log_reeig_with_spectrum(spd.reeig(pooled))
        spd.spectrum_health(eigenvalues)
    else:
        logarithm = spd.log_iterative(pooled)
    gaussian = spd.logeig(spd.gaussian_pool(features)) if method == "eigh" else spd.gaussian_pool(features)
    loss = tf.reduce_sum(tf.square(spd.vectorise(logarithm, "upper"))) + tf.reduce_sum(tf.square(gaussian))
    spd.orthogonality_error(w)
    optimizer = tf.train.AdamOptimizer(0.1)
    spd.apply_on_stiefel(
        optimizer,
        optimizer.compute_gradients(loss),
        [w],
        tf.train.get_or_create_global_step(),
        "qr" if method == "eigh" else "polar",
    )
    types = {op.type for op in tf.get_default_graph().get_operations()}
    assert not types & HOST_BOUND
    decompositions = {"SelfAdjointEigV2", "Qr"}
    assert types & decompositions == (decompositions if method == "eigh" else set())
