"""No speed is bought with a changed result: loss and gradients of the trainer's step are the textbook graph's.

Both are compared with the textbook graph in float64: the trainer's may be no further from it than three times what the
textbook's own float32 is. `make bench` compares PyTorch's in the same way, in the full size.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from benchmarks.speed import problem, textbook
from benchmarks.speed.side_ours import Training, gradients_of_first_step, parameters
from covpool.networks import patches

BATCH = 4


@pytest.fixture(scope="module")
def ours():
    """The trainer's graph on four pictures: its weights, its gradients, and the pictures in the order that it saw.

    The first layer takes them in two parts.
    """
    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(patches, "PART_BYTES", 3 * 4 * problem.SIZE**2 * 64)
        training, images, labels = on_four_pictures()
    names = training.below_scope()
    weights = training.session.run({short: training.graph.inference[name] for short, name in names.items()})
    found = gradients_of_first_step(training)
    training.session.close()
    order = training.plan.step(0).indices
    return weights, found, images[order], labels[order]


def on_four_pictures():
    images, labels = problem.synthetic_pictures(BATCH, problem.SIZE)
    return Training(parameters(dict(problem.FIXED, **{"train.batch_size": BATCH})), images, labels), images, labels


def gradients_of_textbook(dtype, weights, images, labels):
    built = textbook.build(dtype=dtype)
    expected = {name: each for name, each in built.gradients.items() if name != "centers"}
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for name, value in weights.items():
            built.variables[name].load(value, session)
        feed = {built.images: images, built.labels: labels}
        found, loss = session.run([expected, built.cross_entropy + built.center], feed)
    found[problem.BIMAP] = problem.tangent(weights[problem.BIMAP], found[problem.BIMAP])
    return dict(found, loss=loss)


def test_loss_and_gradients_of_a_step_are_those_of_the_textbook_graph(ours):
    weights, found, images, labels = ours
    truth = gradients_of_textbook(tf.float64, weights, images, labels)
    with tf.Graph().as_default():
        plain = problem.errors(gradients_of_textbook(tf.float32, weights, images, labels), truth)
    errors = problem.errors(found, truth)
    assert problem.agrees(errors, plain), (errors, plain)
    # The comparison is worth something: rounding, which four pictures magnify, would not hide a term.
    assert plain["loss"] < 1e-4 and plain["whole gradient"] < 1e-2


def test_a_step_in_parts_repeats_to_the_last_digit(ours, monkeypatch):
    monkeypatch.setattr(patches, "PART_BYTES", 3 * 4 * problem.SIZE**2 * 64)
    training, _, _ = on_four_pictures()
    again = gradients_of_first_step(training)
    training.session.close()
    for name, gradient in ours[1].items():
        np.testing.assert_array_equal(gradient, again[name], err_msg=name)


def test_the_comparison_sees_a_gradient_that_is_slightly_wrong(ours):
    _, found, _, _ = ours
    wrong = dict(found, **{"fc_1/weights": 1.001 * found["fc_1/weights"]})
    rounding = {name: 1e-6 for name in problem.errors(found, found)}
    assert problem.agrees(problem.errors(found, found), rounding)
    assert not problem.agrees(problem.errors(wrong, found), rounding)
    assert np.linalg.norm(found["fc_1/weights"]) > 0
