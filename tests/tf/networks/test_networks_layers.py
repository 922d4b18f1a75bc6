"""The layers against SciPy, NumPy and the arithmetic of the papers."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from covpool import networks


def run(outputs, layers=None, assign=None):
    """Values of tensors, after variables were given values by name, and then the layers' updates."""
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        named = {each.op.name: each for each in tf.global_variables()}
        for name, value in (assign or {}).items():
            named[name].load(value, session)
        values = session.run(outputs)
        if layers:
            session.run(layers.updates)
        return values, {name: session.run(each) for name, each in named.items()}


def test_convolution_is_scipys_correlation():
    rng = np.random.RandomState(0)
    images = rng.standard_normal((2, 9, 8, 3)).astype(np.float32)
    mean, variance, beta = rng.standard_normal((3, 4)).astype(np.float32)
    variance = np.abs(variance) + 0.5
    outputs = networks.Layers(training=False).convolution(tf.constant(images), 4, "here")
    found, named = run(
        outputs,
        assign={
            "here/BatchNorm/moving_mean": mean,
            "here/BatchNorm/beta": beta,
            "here/BatchNorm/moving_variance": variance,
        },
    )
    kernel = named["here/weights"]
    for n in range(2):
        for channel in range(4):
            plain = sum(
                signal.correlate2d(images[n, :, :, c], kernel[:, :, c, channel], mode="same", boundary="fill")
                for c in range(3)
            )
            normal = (plain - mean[channel]) / np.sqrt(variance[channel] + 1e-3) + beta[channel]
            np.testing.assert_allclose(found[n, :, :, channel], np.maximum(normal, 0), atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 4, 5)])
def test_batch_norm_in_training_uses_the_batch_and_moves_the_statistics(shape):
    values = (3 + 2 * np.random.RandomState(0).standard_normal(shape)).astype(np.float32)
    layers = networks.Layers(training=True, batch_norm_decay=0.9)
    found, named = run(layers.batch_norm(tf.constant(values)), layers)
    axes = tuple(range(len(shape) - 1))
    wide = values.astype(np.float64)
    mean, count = wide.mean(axis=axes), wide[..., 0].size
    np.testing.assert_allclose(found, (wide - mean) / np.sqrt(wide.var(axis=axes) + 1e-3), atol=2e-5)
    np.testing.assert_allclose(named["BatchNorm/moving_mean"], 0.1 * mean, rtol=1e-5)
    unbiased = wide.var(axis=axes) * count / (count - 1)
    np.testing.assert_allclose(named["BatchNorm/moving_variance"], 0.9 + 0.1 * unbiased, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 4, 5)])
def test_batch_norm_gradient_is_that_of_finite_differences(shape):
    rng = np.random.RandomState(1)
    values, direction, cotangent = rng.standard_normal((3,) + shape)
    inputs = tf.constant(values, tf.float32)
    outputs = networks.Layers(training=True, batch_norm_decay=0.9).batch_norm(inputs)
    gradient = tf.gradients(outputs, inputs, grad_ys=tf.constant(cotangent, tf.float32))[0]
    found = np.sum(run(gradient)[0] * direction)

    def loss(x):
        axes = tuple(range(x.ndim - 1))
        return np.sum(cotangent * (x - x.mean(axis=axes)) / np.sqrt(x.var(axis=axes) + 1e-3))

    step = 1e-5
    wanted = (loss(values + step * direction) - loss(values - step * direction)) / (2 * step)
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def maxima(x):
    """Of 2x2 squares; an odd end is left out."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return np.max([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)


def normalised(x, beta):
    return (x - x.mean(axis=(0, 1, 2))) / np.sqrt(x.var(axis=(0, 1, 2)) + 1e-3) + beta


def test_pooled_batch_norm_gives_the_maxima_of_the_normalised_positions():
    rng = np.random.RandomState(3)
    values, beta = 3 + 2 * rng.standard_normal((3, 7, 5, 4)), rng.standard_normal(4)
    layers = networks.Layers(training=True, batch_norm_decay=0.9)
    outputs = layers.batch_norm(tf.constant(values, tf.float32), pooled=True)
    found, named = run(outputs, layers, {"BatchNorm/beta": beta})
    np.testing.assert_allclose(found, maxima(normalised(values, beta)), atol=2e-5)
    # The statistics are those of all positions, not of the maxima.
    np.testing.assert_allclose(named["BatchNorm/moving_mean"], 0.1 * values.mean(axis=(0, 1, 2)), rtol=1e-5)
    unbiased = values.var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(named["BatchNorm/moving_variance"], 0.9 + 0.1 * unbiased, rtol=1e-5)

    scored = networks.Layers(training=False)
    with tf.variable_scope("scored"):
        outputs = scored.batch_norm(tf.constant(values, tf.float32), pooled=True)
    found, _ = run(outputs, assign={"scored/BatchNorm/beta": beta, "scored/BatchNorm/moving_mean": 2 * beta})
    np.testing.assert_allclose(found, maxima((values - 2 * beta) / np.sqrt(1 + 1e-3) + beta), atol=1e-5)


def test_pooled_batch_norm_has_the_gradients_of_finite_differences():
    rng = np.random.RandomState(4)
    values, direction = rng.standard_normal((2, 3, 7, 5, 4))
    shift, cotangent = rng.standard_normal(4), rng.standard_normal((3, 3, 2, 4))
    inputs = tf.constant(values, tf.float32)
    outputs = networks.Layers(training=True, batch_norm_decay=0.9).batch_norm(inputs, pooled=True)
    (beta,) = tf.trainable_variables()
    gradients = tf.gradients(outputs, [inputs, beta], grad_ys=tf.constant(cotangent, tf.float32))
    (to_inputs, to_beta), _ = run(gradients)

    def loss(step):
        return np.sum(cotangent * maxima(normalised(values + step * direction, step * shift)))

    # So small a step that no other position becomes a maximum.
    step = 1e-6
    wanted = (loss(step) - loss(-step)) / (2 * step)
    assert np.sum(to_inputs * direction) + np.sum(to_beta * shift) == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_positions_before_a_pooled_batch_norm_are_normalised_for_nothing_but_their_statistics():
    """What a training step keeps for its backward pass holds no large tensor beside the inputs."""
    inputs = tf.placeholder(tf.float32, [2, 8, 8, 3])
    outputs = networks.Layers(training=True, batch_norm_decay=0.9).batch_norm(inputs, pooled=True)
    tf.gradients(outputs, inputs)
    normal = [
        each.outputs[0]
        for each in tf.get_default_graph().get_operations()
        if each.type.startswith("FusedBatchNorm") and not each.type.startswith("FusedBatchNormGrad")
    ]
    large = [each for each in normal if each.shape.as_list() == [2, 8, 8, 3]]
    assert len(large) == 1 and not large[0].consumers()


def test_fully_connected_layers_are_matrix_products():
    inputs = np.random.RandomState(2).standard_normal((4, 6)).astype(np.float32)
    layers = networks.Layers(training=False)
    outputs = [
        layers.fully_connected(tf.constant(inputs), 3, "a"),
        layers.fully_connected(tf.constant(inputs), 3, "b", False),
        layers.logits(tf.constant(inputs), 2),
    ]
    (relu, linear, logits), named = run(outputs, assign={"Logits/biases": np.float32([5, -5])})
    scale = np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(relu, np.maximum(inputs @ named["a/weights"], 0) / scale, atol=1e-6)
    np.testing.assert_allclose(linear, inputs @ named["b/weights"] / scale, atol=1e-6)
    assert linear.min() < 0
    np.testing.assert_allclose(logits, inputs @ named["Logits/weights"] + [5, -5], atol=1e-6)


@pytest.fixture(scope="module")
def dropped():
    """dropped(seed, step, inputs) -> what keyed dropout makes of them, keeping 80 %, and its gradient."""
    graph = tf.Graph()
    with graph.as_default():
        inputs = tf.placeholder(tf.float32, [32, 2000])
        step = tf.placeholder(tf.int64, [])
        outputs = {seed: networks.keyed_dropout(0.8, step)(inputs, seed) for seed in (3, 4)}
        gradients = {seed: tf.gradients(each, inputs)[0] for seed, each in outputs.items()}
    with tf.Session(graph=graph) as session:
        yield lambda seed, number, values: session.run([outputs[seed], gradients[seed]], {inputs: values, step: number})


def test_workers_drop_together_what_one_would(evaluate):
    step = tf.constant(7, tf.int64)
    parts = [networks.keyed_dropout(0.8, step, 3, rank)(tf.ones([4, 50]), 5) for rank in range(3)]
    whole, parts = evaluate([networks.keyed_dropout(0.8, step)(tf.ones([12, 50]), 5), parts])
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@settings(max_examples=15, deadline=None)
@given(step=st.integers(0, 2**40), value=st.floats(0.5, 2, width=32))
def test_dropout_keeps_a_share_and_its_gradient_is_its_mask(dropped, step, value):
    outputs, gradients = dropped(3, step, np.full((32, 2000), value, np.float32))
    kept = outputs != 0
    np.testing.assert_allclose(outputs[kept], value / 0.8, rtol=1e-6)
    np.testing.assert_array_equal(gradients, np.where(kept, np.float32(1 / 0.8), 0))
    # Five deviations of a binomial share of 64,000.
    assert abs(kept.mean() - 0.8) < 5 * np.sqrt(0.8 * 0.2 / kept.size)
    # No column and no row is treated apart: seven deviations.
    assert abs(kept.mean(axis=0) - 0.8).max() < 7 * np.sqrt(0.16 / 32)
    assert abs(kept.mean(axis=1) - 0.8).max() < 7 * np.sqrt(0.16 / 2000)


def test_dropout_depends_on_seed_and_step_alone(dropped):
    ones = np.ones((32, 2000), np.float32)
    masks = {(seed, step): dropped(seed, step, ones)[0] for seed in (3, 4) for step in (0, 1, 2)}
    for (seed, step), mask in masks.items():
        np.testing.assert_array_equal(mask, dropped(seed, step, ones)[0])
    different = [
        np.mean((one != 0) != (other != 0))
        for key, one in masks.items()
        for other_key, other in masks.items()
        if key < other_key
    ]
    # Two independent masks differ in 2 * 0.8 * 0.2 = 32 % of the places.
    assert min(different) > 0.3 and max(different) < 0.34


def test_dropout_is_of_training_only_and_may_be_a_devices_own():
    def halve(tensor, seed):
        return tensor / 2

    ones = tf.ones([2, 3])
    assert networks.Layers(training=False, dropout=halve).dropout(ones, "here") is ones
    assert networks.Layers(training=True).dropout(ones, "here") is ones
    found, _ = run(networks.Layers(training=True, dropout=halve).dropout(ones, "here"))
    np.testing.assert_array_equal(found, np.full((2, 3), 0.5))


def test_layers_of_a_network_drop_differently():
    drawn = []

    def remember(tensor, seed):
        drawn.append(seed)
        return tensor

    layers = networks.Layers(training=True, dropout=remember, seed=7)
    layers.dropout(tf.ones([2]), "fc_1/dropout")
    layers.dropout(tf.ones([2]), "fc_2/dropout")
    networks.Layers(training=True, dropout=remember, seed=8).dropout(tf.ones([2]), "fc_1/dropout")
    assert len(set(drawn)) == 3
    for number in range(200):
        layers.dropout(tf.zeros([2]), f"layer_{number}")
    assert len(set(drawn)) == 203 and all(0 <= seed < 2**31 - 1 for seed in drawn)
