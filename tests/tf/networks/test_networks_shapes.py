"""The networks are the original's: layers, names, shapes, number of parameters; and what may be chosen otherwise."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import networks
from tests.tf.networks import networks_truth

MODELS = ("covpoolnet", "covpoolnet2")


def build(network, spd_settings, training=False, classes=7, size=100, batch=2, seed=666):
    images = tf.placeholder(tf.float32, [batch, size, size, 3])
    layers = networks.Layers(training=training, batch_norm_decay=0.995, seed=seed)
    return networks.build(images, layers, network, spd_settings, classes), layers


def variables():
    return {each.op.name: tuple(each.shape.as_list()) for each in tf.global_variables()}


def full_names(model, found):
    scope = networks_truth.SCOPES[model]
    return {name if name.startswith("Logits/") else scope + "/" + name: shape for name, shape in found.items()}


@pytest.mark.parametrize("model, parameters", [("covpoolnet", 34283415), ("covpoolnet2", 34266647)])
def test_variables_are_those_of_the_original(network, spd_settings, model, parameters):
    build(network(model), spd_settings)
    found = variables()
    assert found == full_names(model, networks_truth.shapes(model))
    assert sum(int(np.prod(shape)) for shape in found.values()) == parameters
    trainable = {each.op.name for each in tf.trainable_variables()}
    assert trainable == {name for name in found if "moving_" not in name}


def test_layers_have_the_sizes_of_the_paper(network, spd_settings):
    ends, _ = build(network("covpoolnet"), spd_settings)
    sizes = {name: tuple(each.shape.as_list()) for name, each in ends.items()}
    assert sizes == {
        "features": (2, 144, 256),
        "covariance": (2, 256, 256),
        "bimap": (2, 128, 128),
        "reeig": (2, 128, 128),
        "logeig": (2, 128, 128),
        "embeddings": (2, 128),
        "logits": (2, 7),
        "probabilities": (2, 7),
    }
    operations = tf.get_default_graph().get_operations()
    convolutions = [each.outputs[0].shape.as_list()[1:] for each in operations if each.type == "Conv2D"]
    assert convolutions == [
        [100, 100, 64],
        [50, 50, 96],
        [25, 25, 128],
        [25, 25, 128],
        [12, 12, 256],
        [12, 12, 256],
    ]
    pools = [each.outputs[0].shape.as_list()[1:3] for each in operations if each.type == "MaxPool"]
    assert pools == [[50, 50], [25, 25], [12, 12]]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "choices, classes",
    [
        (dict(pooling="gaussian"), 7),
        (dict(pooling="average"), 8),
        (dict(vectorise="upper", embedding_size=512), 2),
    ],
)
def test_other_choices_change_the_variables_that_they_should(network, spd_settings, model, choices, classes):
    ends, _ = build(network(model, **choices), spd_settings, classes=classes)
    named = {("embedding" if key == "embedding_size" else key): value for key, value in choices.items()}
    assert variables() == full_names(model, networks_truth.shapes(model, classes=classes, **named))
    assert ends["logits"].shape.as_list() == [2, classes]
    assert ("covariance" in ends) == (choices.get("pooling") != "average")


def test_training_and_scoring_share_their_variables(network, spd_settings):
    build(network(pooling="average"), spd_settings, training=True)
    before = variables()
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        build(network(pooling="average"), spd_settings)
    assert variables() == before


def test_weight_decay_acts_on_every_kernel_and_nothing_else(network, spd_settings):
    _, layers = build(network("covpoolnet"), spd_settings, training=True)
    assert sorted(each.op.name for each in layers.kernels) == sorted(
        name for name in variables() if name.endswith("/weights")
    )


def test_initial_weights_are_cut_normals_and_an_orthonormal_frame(network, spd_settings, evaluate):
    build(network("covpoolnet2", vectorise="upper"), spd_settings)
    values = evaluate({each.op.name: each for each in tf.global_variables()})
    for name, value in values.items():
        if name.endswith("/weights"):
            assert np.abs(value).max() <= 0.2 + 1e-6
            # A normal cut at two deviations keeps 0.8796 of its deviation.
            assert value.std() == pytest.approx(0.08796, rel=0.1 if value.size < 1000 else 0.03)
        elif name.endswith("moving_variance"):
            assert (value == 1).all()
        elif not name.endswith("orth_weight0"):
            assert (value == 0).all()
    frame = values["CovPool2/spdpooling1/orth_weight0"].astype(np.float64)
    np.testing.assert_allclose(frame.T @ frame, np.eye(128), atol=1e-6)


def test_initial_weights_depend_on_seed_and_name_only(network, spd_settings, evaluate):
    def first_and_last(seed, embedding_size):
        with tf.Graph().as_default():
            tf.set_random_seed(seed)
            build(network(pooling="average", embedding_size=embedding_size), spd_settings, seed=seed)
            named = {each.op.name: each for each in tf.global_variables()}
            return evaluate([named["CovPool2/Conv2d_1/weights"], named["CovPool2/fc_1/weights"]])

    first, again, other = first_and_last(1, 128), first_and_last(1, 64), first_and_last(2, 128)
    for one, same, different in zip(first, again, other):
        np.testing.assert_array_equal(one, same)
        assert np.abs(one - different).max() > 0.01
    assert not np.array_equal(first[0].ravel()[:100], first[1].ravel()[:100])
