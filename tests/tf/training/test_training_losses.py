"""The terms of the loss against their closed forms."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from scipy import special

from covpool.training import losses

RNG = np.random.RandomState(0)
LOGITS = RNG.standard_normal((8, 4)).astype(np.float32) * 3
LABELS = np.int32([0, 1, 1, 3, 3, 3, 0, 1])  # class 2 does not occur
EMBEDDINGS = RNG.standard_normal((8, 5)).astype(np.float32)


def cross_entropies():
    return special.logsumexp(LOGITS.astype(np.float64), axis=1) - LOGITS[np.arange(8), LABELS]


def test_cross_entropy_is_the_mean_or_the_weighted_mean(evaluate):
    each = cross_entropies()
    weights = np.float32([1, 2, 5, 0.5])
    found = evaluate(
        [
            losses.weighted_cross_entropy(tf.constant(LOGITS), tf.constant(LABELS)),
            losses.weighted_cross_entropy(tf.constant(LOGITS), tf.constant(LABELS), weights),
        ]
    )
    np.testing.assert_allclose(found, [each.mean(), np.average(each, weights=weights[LABELS])], rtol=1e-6)


def test_balanced_weights_give_every_class_the_same_share():
    weights = losses.balanced_class_weights(LABELS, 4)
    assert weights[2] == 0 and weights.dtype == np.float32
    shares = np.bincount(LABELS, weights=weights[LABELS], minlength=4)
    np.testing.assert_allclose(shares[[0, 1, 3]], 8 / 3, rtol=1e-6)
    np.testing.assert_allclose(losses.balanced_class_weights(np.repeat([0, 1], 5), 2), [1, 1])


def test_balanced_weights_count_a_single_picture_as_one():
    np.testing.assert_allclose(losses.balanced_class_weights(np.array([0, 1, 1, 1]), 2), [2, 2 / 3], rtol=1e-6)


def test_the_centre_of_a_single_picture_moves_by_the_whole_difference(evaluate):
    _, (update,) = losses.center_loss(tf.constant([[4.0, -2.0]]), tf.constant([1]), 2, 0.5)
    np.testing.assert_allclose(evaluate(update), [[0, 0], [2, -1]])


def test_center_loss_and_its_gradient_and_the_moving_centres():
    """Two steps: the centres start at 0 and move by (1 - alfa) of the mean difference of their class."""
    alfa = 0.9
    embeddings = tf.constant(EMBEDDINGS)
    value, updates = losses.center_loss(embeddings, tf.constant(LABELS), 4, alfa)
    gradient = tf.gradients(value, embeddings)[0]
    centers = tf.global_variables()[0]
    expected = np.zeros((4, 5))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in range(2):
            found, slope, _ = session.run([value, gradient, updates])
            difference = EMBEDDINGS - expected[LABELS]
            assert found == pytest.approx(np.mean(difference**2), rel=1e-5)
            np.testing.assert_allclose(slope, 2 * difference / difference.size, rtol=1e-5, atol=1e-7)
            for c in (0, 1, 3):
                expected[c] += (1 - alfa) * difference[LABELS == c].mean(axis=0)
            np.testing.assert_allclose(session.run(centers), expected, atol=1e-6)


def terms(params_with, **changes):
    train = params_with({"train." + key: value for key, value in changes.items()}).train
    kernels = [
        tf.get_variable("a", [3, 4], initializer=tf.constant_initializer(2.0), use_resource=True),
        tf.get_variable("b", [5], initializer=tf.constant_initializer(-3.0), use_resource=True),
    ]
    endpoints = {"logits": tf.constant(LOGITS), "embeddings": tf.constant(EMBEDDINGS)}
    found = losses.losses(endpoints, tf.constant(LABELS), kernels, 4, train, None)
    return found, tf.gradients(found.total, kernels)


def test_the_total_is_cross_entropy_and_the_terms_with_their_factors(params_with, evaluate):
    found, gradients = terms(params_with, weight_decay=0.05, center_loss_factor=0.01)
    assert len(found.updates) == 1
    values, slopes = evaluate([found[:5], gradients])
    cross_entropy = cross_entropies().mean()
    l2 = 0.05 * (12 * 4 + 5 * 9) / 2
    center = 0.01 * np.mean(EMBEDDINGS.astype(float) ** 2)
    accuracy = np.mean(LOGITS.argmax(axis=1) == LABELS)
    np.testing.assert_allclose(values, [cross_entropy + l2 + center, cross_entropy, l2, center, accuracy], rtol=1e-6)
    np.testing.assert_allclose(slopes[0], np.full((3, 4), 0.05 * 2), rtol=1e-6)


def test_with_decay_adds_the_gradient_of_the_l2_term_of_the_weights_before_the_step(params_with):
    found, gradients = terms(params_with, weight_decay=0.05, center_loss_factor=0.01)
    kernels = tf.trainable_variables()
    zero = [tf.zeros(each.shape) for each in kernels]
    decayed = [losses.with_decay(*pair, 0.05, found.l2) for pair in zip(zero, kernels)]
    update = tf.group(*[tf.assign_sub(kernel, 100.0 * step) for kernel, step in zip(kernels, decayed)])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for ours, expected in zip(*session.run([decayed, gradients])):
            np.testing.assert_allclose(ours, expected, rtol=1e-6)
        for factor in (1, 4 * 4, 16 * 16):
            l2, _ = session.run([found.l2, update])
            assert l2 == pytest.approx(factor * 0.05 * (12 * 4 + 5 * 9) / 2, rel=1e-5)


def test_terms_that_are_off_are_zero_and_cost_nothing(params_with, evaluate):
    found, gradients = terms(params_with, weight_decay=0.0, center_loss_factor=0.0)
    assert gradients == [None, None] and found.updates == []
    values = evaluate(found[:5])
    assert values[0] == values[1] and values[2] == values[3] == 0
    assert not [each for each in tf.global_variables() if each.op.name == "centers"]
