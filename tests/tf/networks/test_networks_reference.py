"""The whole network against its float64 twin in NumPy, from a checkpoint to every endpoint."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import networks
from covpool.networks import checkpoints
from tests.tf.networks import networks_truth

#: Largest error, as a share of the endpoint's largest value: about ten times what the TensorFlow builds show.
TOLERANCES = {
    "features": 2e-5,
    "covariance": 2e-5,
    "bimap": 1e-5,
    "reeig": 1e-4,
    "logeig": 1e-4,
    "embeddings": 3e-4,
    "logits": 5e-4,
    "probabilities": 2e-3,
}


def compare(found, wanted):
    assert set(wanted) <= set(found)
    for name, values in wanted.items():
        error = np.abs(found[name] - values).max() / np.abs(values).max()
        assert error < TOLERANCES[name], name


@pytest.mark.parametrize(
    "model, choices",
    [
        ("covpoolnet", {}),
        ("covpoolnet2", dict(pooling="gaussian", vectorise="upper", embedding=40, classes=3)),
        ("covpoolnet2", dict(pooling="average", classes=11)),
    ],
)
def test_endpoints_are_those_of_a_float64_network(tmp_path, network, spd_settings, model, choices):
    images = networks_truth.standardised(networks_truth.faces(2))
    arrays = networks_truth.weights(model, images, **choices)
    wanted = networks_truth.forward(arrays, images, model, **choices)
    assert wanted["features"].max() > 1 and 0.01 < wanted["probabilities"].max() < 0.9999

    named = dict(choices)
    settings = network(
        model,
        embedding_size=named.pop("embedding", 128),
        **{key: value for key, value in named.items() if key != "classes"},
    )
    inputs = tf.placeholder(tf.float32, [None, 100, 100, 3])
    ends = networks.build(inputs, networks.Layers(training=False), settings, spd_settings, choices.get("classes", 7))
    load = checkpoints.LoadOp(tf.global_variables())
    scope = networks_truth.SCOPES[model] + "/"
    with tf.Session() as session:
        load(session, {name if name in load.shapes else scope + name: values for name, values in arrays.items()})
        compare(session.run(dict(ends), {inputs: images}), wanted)


def test_the_iterative_logarithm_computes_the_same_network(network, spd_settings):
    """Where ReEig does not clip, which the ridge sees to."""
    images = tf.constant(networks_truth.standardised(networks_truth.faces(3, size=48)), tf.float32)
    found = []
    for method in ("eigh", "iterative"):
        with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
            settings = dataclasses.replace(spd_settings, method=method)
            ends = networks.build(images, networks.Layers(training=False), network(), settings, 7)
        assert ("reeig" in ends) == (method == "eigh")
        found.append(ends)
    variables = [each for each in tf.global_variables() if "/Conv2d" in each.op.name or "spd" in each.op.name]
    with tf.Session() as session:
        session.run(tf.variables_initializer(variables))
        bimap, exact, iterative = session.run([found[0]["bimap"], found[0]["logeig"], found[1]["logeig"]])
    assert np.linalg.eigvalsh(bimap.astype(np.float64)).min() > 1e-4
    assert np.abs(iterative - exact).max() / np.abs(exact).max() < 1e-3


def test_training_without_dropout_computes_the_same_function(network, spd_settings):
    """On its own batch's statistics, where the matrices need not be formed."""
    images = networks_truth.standardised(networks_truth.faces(3, size=48))
    values = {}
    for training in (True, False):
        with tf.Graph().as_default(), tf.Session() as session:
            layers = networks.Layers(training=training, batch_norm_decay=0.0, seed=3)
            ends = networks.build(tf.constant(images, tf.float32), layers, network(), spd_settings, 7)
            variables = [each for each in tf.global_variables() if "/Conv2d" in each.op.name or "spd" in each.op.name]
            session.run(tf.variables_initializer(variables))
            if training:
                values[training] = session.run([ends["bimap"], ends["logeig"], ends["eigenvalues"]])
                session.run([update for update in layers.updates if "/Conv2d" in update.op.name])
                statistics = {each.op.name: session.run(each) for each in variables}
            else:
                for each in variables:
                    # The moving variance is the unbiased one; the batch was divided by the biased.
                    count = 3 * {
                        "Conv2d_1": 48 * 48,
                        "Conv2d_2": 24 * 24,
                        "Conv2d_3": 144,
                        "Conv2d_4": 144,
                        "Conv2d_5": 36,
                        "Conv2dfo_6": 36,
                    }.get(each.op.name.split("/")[1], 2)
                    scale = (count - 1) / count if each.op.name.endswith("moving_variance") else 1
                    each.load(statistics[each.op.name] * scale, session)
                values[training] = session.run([ends["bimap"], ends["logeig"]])
    for one, other in zip(values[True], values[False]):
        assert np.abs(one - other).max() / np.abs(other).max() < 1e-3
    spectrum = np.linalg.eigvalsh(values[False][0].astype(np.float64))
    np.testing.assert_allclose(values[True][2], spectrum, rtol=1e-3, atol=1e-6 * spectrum.max())
