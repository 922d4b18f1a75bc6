"""The first convolution in parts against NumPy in float64, finite differences, and the plain layers."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from covpool import networks
from covpool.networks import patches
from covpool.networks.normalisation import normalised_by_batch
from tests.tf.networks.test_networks_layers import maxima, normalised, run


def convolved(images, kernel):
    """[B, h, w, c] and [3, 3, c, n] in float64, by SciPy."""
    return np.stack(
        [
            np.stack(
                [
                    sum(
                        signal.correlate2d(image[:, :, c], kernel[:, :, c, n], mode="same")
                        for c in range(image.shape[2])
                    )
                    for n in range(kernel.shape[3])
                ],
                axis=-1,
            )
            for image in images
        ]
    )


def grey_levels(rng, shape):
    """Values as a picture has them: far from 0, and smooth, so that patches are nearly the same throughout."""
    height, width = shape[1:3]
    y, x = np.mgrid[:height, :width]
    slopes = rng.uniform(-4, 4, (2, shape[0], 1, 1, shape[3]))
    return 120 + slopes[0] * y[:, :, None] + slopes[1] * x[:, :, None] + rng.uniform(-3, 3, shape)


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of two pictures of 7x6 with 4 channels, so that 5 pictures are parts of 2, 2 and 1."""
    monkeypatch.setattr(patches, "PART_BYTES", 2 * 4 * 7 * 6 * 4)


def test_outputs_and_statistics_are_those_of_all_positions_together(small_parts):
    rng = np.random.RandomState(0)
    images, beta = grey_levels(rng, (5, 7, 6, 3)), rng.standard_normal(4)
    layers = networks.Layers(training=True, batch_norm_decay=0.9, in_parts=True)
    outputs = layers.convolution(tf.constant(images, tf.float32), 4, "here", pooled=True, of_pictures=True)
    found, named = run(outputs, layers, {"here/BatchNorm/beta": beta})
    values = convolved(images, named["here/weights"].astype(np.float64))
    np.testing.assert_allclose(found, np.maximum(maxima(normalised(values, beta)), 0), atol=1e-4)
    np.testing.assert_allclose(named["here/BatchNorm/moving_mean"], 0.1 * values.mean(axis=(0, 1, 2)), rtol=1e-4)
    unbiased = values.var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(named["here/BatchNorm/moving_variance"], 0.9 + 0.1 * unbiased, rtol=1e-4)


def test_gradients_are_those_of_finite_differences(small_parts):
    rng = np.random.RandomState(1)
    images = grey_levels(rng, (5, 7, 6, 3))
    kernel, direction = rng.standard_normal((2, 3, 3, 3, 4))
    shift, cotangent = rng.standard_normal(4), rng.standard_normal((5, 3, 3, 4))
    weights, beta = tf.constant(kernel, tf.float32), tf.zeros([4])
    outputs, _, _ = patches.normalised_maxima(tf.constant(images, tf.float32), weights, beta)
    (to_kernel, to_beta), _ = run(tf.gradients(outputs, [weights, beta], tf.constant(cotangent, tf.float32)))

    def loss(step):
        return np.sum(cotangent * maxima(normalised(convolved(images, kernel + step * direction), step * shift)))

    # So small a step that no other position becomes a maximum.
    step = 1e-7
    wanted = (loss(step) - loss(-step)) / (2 * step)
    assert np.sum(to_kernel * direction) + np.sum(to_beta * shift) == pytest.approx(wanted, rel=1e-3)


def test_a_kernel_that_looks_for_edges_keeps_the_small_variance_that_it_has():
    """The variance is a small difference of large sums: float32 must not lose it."""
    images = grey_levels(np.random.RandomState(2), (8, 20, 20, 3))
    edges = np.outer([1, -2, 1], [1, -2, 1])[:, :, None, None] * np.float64([1, -2, 1])[:, None]
    _, _, variance = patches.normalised_maxima(
        tf.constant(images, tf.float32), tf.constant(edges, tf.float32), tf.zeros([1])
    )
    np.testing.assert_allclose(run(variance)[0], convolved(images, edges).var(axis=(0, 1, 2), ddof=1), rtol=1e-4)


@pytest.mark.parametrize("rule", ["none", "per_image"])
def test_a_training_step_has_the_gradients_of_the_plain_layers(rule, monkeypatch):
    """Through two pooled layers: the first one's gradient comes back through the second."""
    monkeypatch.setattr(patches, "PART_BYTES", 4 * 4 * 24 * 24 * 8)
    rng = np.random.RandomState(3)
    images = grey_levels(rng, (6, 24, 24, 3))
    if rule == "per_image":
        images = (images - images.mean(axis=(1, 2, 3), keepdims=True)) / images.std(axis=(1, 2, 3), keepdims=True)
    found = []
    for in_parts in (True, False):
        with tf.Graph().as_default():
            layers = networks.Layers(training=True, batch_norm_decay=0.9, seed=5, in_parts=in_parts)
            net = layers.convolution(tf.constant(images, tf.float32), 8, "one", pooled=True, of_pictures=True)
            net = layers.convolution(net, 8, "two", pooled=True)
            cotangent = tf.constant(np.random.RandomState(4).standard_normal(net.shape.as_list()), tf.float32)
            gradients = tf.gradients(net, tf.trainable_variables(), cotangent)
            found.append([run([net] + gradients, layers)[0], [each.op.name for each in tf.trainable_variables()]])
    (parts, names), (plain, plain_names) = found
    assert names == plain_names
    for one, other in zip(parts, plain):
        assert np.linalg.norm(one - other) <= 1e-4 * np.linalg.norm(other)


def test_bright_and_flat_pictures_lose_no_more_of_the_variance_than_the_plain_layers_do():
    """The mean of a kernel of one sign is many deviations large."""
    images = 250 + np.random.RandomState(5).uniform(-1, 1, (4, 100, 100, 3))
    kernel = np.full((3, 3, 3, 1), 1 / 27)
    inputs, weights = tf.constant(images, tf.float32), tf.constant(kernel, tf.float32)
    _, _, variance = patches.normalised_maxima(inputs, weights, tf.zeros([1]))
    plain = normalised_by_batch(tf.nn.conv2d(inputs, weights, strides=1, padding="SAME"), tf.zeros([1]))[2]
    (found, beside), _ = run([variance, plain])
    wanted = convolved(images, kernel).var(ddof=1)
    assert abs(found - wanted) <= max(1e-4 * wanted, 3 * abs(beside - wanted))


def test_one_part_comes_after_the_other_and_all_come_again_after_the_gradient(small_parts):
    """Else all would be held at once, or the backward pass would share the convolutions of the forward pass."""
    kernel = tf.zeros([3, 3, 3, 4])
    outputs, _, _ = patches.normalised_maxima(tf.zeros([5, 7, 6, 3]), kernel, tf.zeros([4]))
    outer = tf.placeholder(tf.float32, outputs.shape)
    tf.gradients(outputs, kernel, outer)
    convolutions = [
        each
        for each in tf.get_default_graph().get_operations()
        if each.type == "Conv2D" and each.outputs[0].shape.as_list()[1:] == [7, 6, 4]
    ]
    before = [ancestors(each) for each in convolutions]
    assert [outer.op in each for each in before] == [False] * 3 + [True] * 3
    for place in (1, 2, 4, 5):
        assert convolutions[place - 1] in before[place]
        added = {"forward": ("MaxPool", "Conv2DBackpropFilter"), "backward": ("MaxPoolGrad", "Conv2DBackpropFilter")}
        for kind in added["forward" if place < 3 else "backward"]:
            assert any(each.type == kind and convolutions[place - 1] in ancestors(each) for each in before[place])


def ancestors(operation):
    """All operations that have to be run before this one."""
    found, waiting = set(), [operation]
    while waiting:
        each = waiting.pop()
        for earlier in [tensor.op for tensor in each.inputs] + list(each.control_inputs):
            if earlier not in found:
                found.add(earlier)
                waiting.append(earlier)
    return found


def test_no_tensor_has_the_whole_convolution(small_parts):
    layers = networks.Layers(training=True, batch_norm_decay=0.9, in_parts=True)
    net = layers.convolution(tf.zeros([5, 7, 6, 3]), 4, "here", pooled=True, of_pictures=True)
    tf.gradients(net, tf.trainable_variables())
    shapes = [
        output.shape.as_list()
        for each in tf.get_default_graph().get_operations()
        for output in each.outputs
        if output.shape.ndims == 4 and output.shape.as_list()[1:] == [7, 6, 4]
    ]
    assert shapes and max(shape[0] for shape in shapes) == 2


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.floats(1, 1e9))
def test_parts_are_even_and_hold_everything_once(batch, bytes_each):
    sizes = patches.even_sizes(batch, bytes_each)
    assert sum(sizes) == batch and min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    assert max(sizes) == 1 or max(sizes) * bytes_each <= patches.PART_BYTES


def test_pictures_of_unknown_number_are_refused():
    with pytest.raises(ValueError, match="expected inputs of a static shape, got"):
        patches.normalised_maxima(tf.placeholder(tf.float32, [None, 8, 8, 3]), tf.zeros([3, 3, 3, 4]), tf.zeros([4]))
