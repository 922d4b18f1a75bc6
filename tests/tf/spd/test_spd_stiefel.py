"""The Stiefel manifold against NumPy, and the order of an optimiser's step on it."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from covpool import spd

RATE, BETA1, BETA2 = 0.125, 0.875, 1 - 2.0**-10
"""Exact in float32, in which TensorFlow keeps hyperparameters, so that NumPy can follow to the last digits."""
OPTIMISERS = {
    "ADAGRAD": lambda: tf.train.AdagradOptimizer(0.1),
    "ADADELTA": lambda: tf.train.AdadeltaOptimizer(1.0, rho=0.9, epsilon=1e-6),
    "ADAM": lambda: tf.train.AdamOptimizer(RATE, beta1=BETA1, beta2=BETA2, epsilon=0.125),
    "RMSPROP": lambda: tf.train.RMSPropOptimizer(RATE, decay=BETA1, momentum=BETA1, epsilon=1.0),
    "MOM": lambda: tf.train.MomentumOptimizer(RATE / 8, BETA1, use_nesterov=True),
}
SEVERAL_THREADS = tf.ConfigProto(intra_op_parallelism_threads=2, inter_op_parallelism_threads=4)


def sym(x):
    return 0.5 * (x + x.T)


def numpy_projection(w, g):
    return g - w @ sym(w.T @ g)


def numpy_retraction(w):
    q, r = np.linalg.qr(w)
    return q * np.sign(np.diag(r))


def frame(seed, rows=7, cols=4, dtype=np.float64):
    return spd.random_orthonormal(np.random.RandomState(seed), rows, cols, dtype)


def quadratic_problem(use_resource, rows=7, cols=4, dtype=tf.float64):
    """A variable w on the manifold, the loss -trace(w^T A w D) with its minimum on the manifold, and its gradient."""
    rng = np.random.RandomState(5)
    a, d = sym(rng.standard_normal(size=(rows, rows))), np.arange(1, cols + 1)
    start = frame(6, rows, cols)
    w = tf.get_variable("w", initializer=tf.constant(start, dtype), use_resource=use_resource)
    loss = -tf.reduce_sum(w * tf.matmul(tf.constant(a, dtype), w) * tf.constant(d, dtype))
    return w, loss, start, lambda w: -2 * a @ w * d, -np.sum(np.linalg.eigvalsh(a)[-cols:] * d)


@settings(max_examples=20)
@given(rows=st.integers(1, 9), cols=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_random_orthonormal_columns(rows, cols, seed):
    if rows < cols:
        with pytest.raises(ValueError, match="expected rows >= cols, got"):
            spd.random_orthonormal(np.random.RandomState(seed), rows, cols)
        return
    w = spd.random_orthonormal(np.random.RandomState(seed), rows, cols, np.float64)
    np.testing.assert_allclose(w.T @ w, np.eye(cols), atol=1e-14)
    np.testing.assert_array_equal(w, spd.random_orthonormal(np.random.RandomState(seed), rows, cols, np.float64))
    gaussian = np.random.RandomState(seed).standard_normal(size=(rows, cols))
    assert np.all(np.diag(w.T @ gaussian) > 0)


def test_projection_is_orthogonal_idempotent_and_tangent(evaluate):
    w, g, other = frame(0), np.random.RandomState(1).randn(7, 4), np.random.RandomState(2).randn(7, 4)
    once, twice, of_other = evaluate(
        [spd.tangent_project(w, g), spd.tangent_project(w, spd.tangent_project(w, g)), spd.tangent_project(w, other)]
    )
    np.testing.assert_allclose(w.T @ once + once.T @ w, np.zeros([4, 4]), atol=1e-14)
    np.testing.assert_allclose(twice, once, atol=1e-14)
    assert np.sum((g - once) * of_other) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(evaluate(spd.transport(w, g)), once, atol=1e-15)


@settings(max_examples=15)
@given(rows=st.integers(2, 8), cols=st.integers(1, 8), size=st.floats(0, 3), seed=st.integers(0, 2**32 - 1))
def test_both_retractions_agree_with_lapack(rows, cols, size, seed):
    cols = min(rows, cols)
    rng = np.random.RandomState(seed)
    w = frame(seed, rows, cols)
    moved = w + size * numpy_projection(w, rng.standard_normal(size=(rows, cols)))
    with tf.Graph().as_default(), tf.Session() as session:
        qr, polar = session.run([spd.retract(tf.constant(moved), method) for method in spd.RETRACTIONS])
    np.testing.assert_allclose(qr, numpy_retraction(moved), atol=1e-10)
    np.testing.assert_allclose(polar, scipy.linalg.polar(moved)[0], atol=1e-10)


@pytest.mark.parametrize("method", spd.RETRACTIONS)
def test_retraction_is_first_order_exact_and_leaves_the_manifold_alone(evaluate, method):
    """R(w + t xi) = w + t xi + O(t^2) for a tangent xi: halving t quarters the error."""
    w = frame(3)
    xi = numpy_projection(w, np.random.RandomState(4).randn(7, 4))
    steps = (0.0, 0.01, 0.005)
    errors = [
        np.abs(retracted - (w + t * xi)).max()
        for t, retracted in zip(steps, evaluate([spd.retract(tf.constant(w + t * xi), method) for t in steps]))
    ]
    assert errors[0] < 1e-14
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("method", spd.RETRACTIONS)
def test_columns_never_flip(evaluate, method):
    w = np.concatenate([-np.eye(4), np.zeros([3, 4])])
    np.testing.assert_allclose(evaluate(spd.retract(tf.constant(w), method)), w, atol=1e-15)


@pytest.mark.parametrize("rows, cols", [(256, 128), (16, 16), (5, 1)])
@pytest.mark.parametrize("method", spd.RETRACTIONS)
def test_float32_retraction_is_orthonormal_to_rounding(evaluate, method, rows, cols):
    rng = np.random.RandomState(7)
    moved = frame(8, rows, cols) + 0.05 * rng.standard_normal(size=(rows, cols))
    q = evaluate(spd.retract(tf.constant(moved.astype(np.float32)), method)).astype(np.float64)
    assert np.abs(q.T @ q - np.eye(cols)).max() < 3e-6


def test_polar_retraction_scales_by_the_smaller_of_its_two_bounds(evaluate):
    """A row sum of W^T W is 5 times its Frobenius norm; singular values are just above POLAR_LOWEST of its root."""
    size = 101
    first = np.full(size, np.sqrt(0.5 / (size - 1)))
    first[0] = np.sqrt(0.5)
    v = np.linalg.qr(np.column_stack([first, np.random.RandomState(11).standard_normal((size, size - 1))]))[0]
    u = frame(12, size, size)
    w = (u * np.where(np.arange(size) == 0, 1.0, 0.0102)) @ v.T
    gram = np.abs(w.T @ w)
    assert gram.sum(axis=1).max() > 5 * np.linalg.norm(gram)
    np.testing.assert_allclose(evaluate(spd.retract(tf.constant(w), "polar")), u @ v.T, atol=1e-10)


def test_an_unknown_retraction_is_refused():
    with pytest.raises(ValueError, match="method must be one of qr, polar, got 'svd'"):
        spd.retract(tf.zeros([2, 1]), "svd")


def numpy_adam(w, gradient, steps, rate=RATE, beta1=BETA1, beta2=BETA2, epsilon=0.125):
    m, v = np.zeros_like(w), np.zeros_like(w)
    powers = np.array([beta1, beta2], np.float32)  # float32, as TensorFlow keeps them
    for _ in range(steps):
        g = numpy_projection(w, gradient(w))
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        correction = 1 - powers.astype(np.float64)
        w = numpy_retraction(w - rate * np.sqrt(correction[1]) / correction[0] * m / (np.sqrt(v) + epsilon))
        m = numpy_projection(w, m)
        powers *= np.array([beta1, beta2], np.float32)
    return w, m


def numpy_momentum(w, gradient, steps, rate=RATE / 8, momentum=BETA1):
    m = np.zeros_like(w)
    for _ in range(steps):
        g = numpy_projection(w, gradient(w))
        m = momentum * m + g
        w = numpy_retraction(w - rate * (g + momentum * m))
        m = numpy_projection(w, m)
    return w, m


def numpy_rmsprop(w, gradient, steps, rate=RATE, decay=BETA1, momentum=BETA1, epsilon=1.0):
    m, v = np.zeros_like(w), np.ones_like(w)
    for _ in range(steps):
        g = numpy_projection(w, gradient(w))
        v = decay * v + (1 - decay) * g**2
        m = momentum * m + rate * g / np.sqrt(v + epsilon)
        w = numpy_retraction(w - m)
        m = numpy_projection(w, m)
    return w, m


@pytest.mark.parametrize("use_resource", [False, True])
@pytest.mark.parametrize(
    "name, simulated, slot",
    [("ADAM", numpy_adam, "m"), ("MOM", numpy_momentum, "momentum"), ("RMSPROP", numpy_rmsprop, "momentum")],
)
def test_each_step_is_project_update_retract_transport(name, simulated, slot, use_resource):
    """Many steps on several threads against the same steps one after the other in NumPy: a race would show."""
    w, loss, start, gradient, _ = quadratic_problem(use_resource)
    optimizer, step = OPTIMISERS[name](), tf.train.get_or_create_global_step()
    train = spd.apply_on_stiefel(optimizer, optimizer.compute_gradients(loss), [w], step)
    with tf.Session(config=SEVERAL_THREADS) as session:
        session.run(tf.global_variables_initializer())
        for count in (1, 2, 30):
            while session.run(step) < count:
                session.run(train)
            expected_w, expected_moment = simulated(start, gradient, count)
            got_w, got_moment = session.run([w, optimizer.get_slot(w, slot)])
            np.testing.assert_allclose(got_w, expected_w, atol=1e-9)
            np.testing.assert_allclose(got_moment, expected_moment, atol=1e-9)


def ancestors(op):
    found, frontier = set(), [op]
    while frontier:
        current = frontier.pop()
        if current not in found:
            found.add(current)
            frontier.extend([tensor.op for tensor in current.inputs] + list(current.control_inputs))
    return found


@pytest.mark.parametrize("use_resource", [False, True])
def test_reads_follow_the_writes_that_they_are_meant_to_see(use_resource):
    w, loss, _, _, _ = quadratic_problem(use_resource)
    optimizer = OPTIMISERS["ADAM"]()
    step = tf.train.get_or_create_global_step()
    train = spd.apply_on_stiefel(optimizer, optimizer.compute_gradients(loss), [w], step)
    update_type = "ResourceApplyAdam" if use_resource else "ApplyAdam"
    ops = tf.get_default_graph().get_operations()
    (update,) = [op for op in ops if op.type == update_type]
    (qr,) = [op for op in ops if op.type == "Qr"]
    # Of qr's ancestors, one reads w after the update and none before it.
    reads = [op for op in ancestors(qr) if op.type in ("Identity", "ReadVariableOp") and update in ancestors(op)]
    assert reads
    assert qr.inputs[0].op in reads
    assert {update, qr} <= ancestors(train)
    # The moment is written once after qr, from reads of it that follow the update.
    moment = optimizer.get_slot(w, "m").op
    (write,) = [
        op
        for op in ancestors(train)
        if op.type.startswith("Assign") and qr in ancestors(op) and op.inputs[0].op is moment
    ]
    projection = ancestors(write.inputs[1].op) - ancestors(update)
    moment_reads = [op for op in projection if moment in [tensor.op for tensor in op.inputs] and op is not write]
    assert moment_reads and all(update in ancestors(op) for op in moment_reads)


@pytest.mark.parametrize("retraction", spd.RETRACTIONS)
@pytest.mark.parametrize("name", sorted(OPTIMISERS))
def test_every_optimiser_descends_on_the_manifold(name, retraction):
    w, loss, start, _, minimum = quadratic_problem(True, dtype=tf.float32)
    optimizer, step = OPTIMISERS[name](), tf.train.get_or_create_global_step()
    train = spd.apply_on_stiefel(optimizer, optimizer.compute_gradients(loss), [w], step, retraction)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        first = session.run(loss)
        for _ in range(150):
            session.run(train)
        last, error, steps = session.run([loss, spd.orthogonality_error(w), step])
    assert steps == 150 and error < 2e-6
    # ADADELTA's first steps are of the size of its epsilon: it only has to descend.
    assert last < first if name == "ADADELTA" else last < minimum + 0.02 * abs(minimum)


@pytest.mark.parametrize("retraction", spd.RETRACTIONS)
def test_two_thousand_adam_steps_leave_w_orthonormal(retraction):
    """A quarter of the network's 256 x 128 weight, to be quick; float32, the original's Adam, a noisy gradient."""
    rng = np.random.RandomState(9)
    w = tf.get_variable("w", initializer=spd.random_orthonormal(rng, 64, 32), use_resource=True)
    noise = tf.random_normal([64, 32], seed=1)
    optimizer = tf.train.AdamOptimizer(0.005, epsilon=0.1)
    train = spd.apply_on_stiefel(
        optimizer, [(noise + tf.constant(rng.randn(64, 32), tf.float32), w)], [w], retraction=retraction
    )
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        start = session.run(w)
        for _ in range(2000):
            session.run(train)
        end = session.run(w).astype(np.float64)
    assert np.abs(end.T @ end - np.eye(32)).max() < 1e-5
    assert np.abs(end - start).max() > 0.1


def test_other_variables_take_the_plain_step_and_second_moments_stay():
    w, loss, _, _, _ = quadratic_problem(True)
    bias = tf.get_variable("bias", initializer=tf.constant(2.0, tf.float64), use_resource=True)
    unused = tf.get_variable("unused", initializer=tf.constant(1.0, tf.float64), use_resource=True)
    optimizer = tf.train.AdamOptimizer(0.1)
    gradients = optimizer.compute_gradients(loss + tf.square(bias), [w, bias, unused])
    train = spd.apply_on_stiefel(optimizer, gradients, [w])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train)
        b, second, kept = session.run([bias, optimizer.get_slot(w, "v"), unused])
    assert b == pytest.approx(1.9, abs=1e-6) and kept == 1.0
    assert np.all(second >= 0) and np.any(second > 0)


def test_a_wrapping_optimiser_names_the_owner_of_the_slots():
    class Wrapper(tf.train.Optimizer):
        """Passes gradients on and keeps quiet about slots, as loss-scaling wrappers do."""

        def __init__(self, inner):
            super().__init__(False, "Wrapper")
            self.inner = inner

        def apply_gradients(self, grads_and_vars, global_step=None, name=None):
            return self.inner.apply_gradients(grads_and_vars, global_step, name)

    w, loss, start, gradient, _ = quadratic_problem(True)
    inner = OPTIMISERS["ADAM"]()
    train = spd.apply_on_stiefel(Wrapper(inner), inner.compute_gradients(loss), [w], slot_owner=inner)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(5):
            session.run(train)
        np.testing.assert_allclose(session.run(w), numpy_adam(start, gradient, 5)[0], atol=1e-10)


def test_a_stiefel_variable_without_a_gradient_is_refused():
    w, loss, _, _, _ = quadratic_problem(True)
    other = tf.get_variable("other", initializer=frame(10), use_resource=True)
    optimizer = tf.train.AdamOptimizer(0.1)
    with pytest.raises(ValueError, match="expected a gradient for each Stiefel variable, got none for other:0"):
        spd.apply_on_stiefel(optimizer, optimizer.compute_gradients(loss, [w, other]), [w, other])
