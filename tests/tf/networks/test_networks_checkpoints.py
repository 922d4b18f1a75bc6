"""Checkpoints of the original load as they are, ours can be read by it, and what does not fit is told."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import networks
from covpool.networks import checkpoints
from tests.tf.networks import networks_truth

CHOICES = dict(pooling="average", embedding=16)


@pytest.fixture(scope="module")
def arrays():
    """Weights of a small network, by their names below the scope."""
    rng = np.random.RandomState(0)
    shapes = networks_truth.shapes("covpoolnet2", **CHOICES)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def built(network, spd_settings):
    """The variables of the same network, built in the test's graph."""
    images = tf.placeholder(tf.float32, [None, 48, 48, 3])
    networks.build(
        images, networks.Layers(training=False), network(pooling="average", embedding_size=16), spd_settings, 7
    )
    return tf.global_variables()


def shapes_of(variables):
    return {each.op.name: tuple(each.shape.as_list()) for each in variables}


def under(scope, arrays):
    return {name if name.startswith("Logits/") else scope + "/" + name: value for name, value in arrays.items()}


@pytest.mark.parametrize("scope", ["CovPoolNetwork", "CovPool2", "DLP-CNN"])
def test_weights_load_from_each_scope_of_the_original(tmp_path, write_original, arrays, built, scope):
    beside = {
        scope + "/fc_1/weights/Adam": arrays["fc_1/weights"],
        scope + "/fc_1/weights/ExponentialMovingAverage": arrays["fc_1/weights"],
        "beta1_power": np.float32(0.9),
        "global_step": np.int64(7),
        "centers": np.zeros((7, 16), np.float32),
    }
    prefix = write_original(tmp_path / "model.ckpt-7", dict(under(scope, arrays), **beside))
    found = checkpoints.read_weights(prefix, shapes_of(built))
    wanted = under("CovPool2", arrays)
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == np.float32
    assert checkpoints.read_shapes(prefix) == {name: values.shape for name, values in arrays.items()}


def test_weights_load_without_logits(tmp_path, write_original, arrays, built):
    headless = {name: values for name, values in arrays.items() if not name.startswith("Logits/")}
    prefix = write_original(tmp_path / "model", under("DLP-CNN", headless))
    load = checkpoints.LoadOp(built)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run("Logits/weights/Read/ReadVariableOp:0")
        load(session, checkpoints.read_weights(prefix, load.shapes))
        np.testing.assert_array_equal(session.run("Logits/weights/Read/ReadVariableOp:0"), before)
        found = session.run("CovPool2/fc_1/weights/Read/ReadVariableOp:0")
        np.testing.assert_array_equal(found, arrays["fc_1/weights"])


@pytest.mark.parametrize("scope", ["CovPoolNetwork", "CovPool2"])
def test_ours_are_read_by_the_originals_saver_and_byte_for_byte_the_same(tmp_path, arrays, scope):
    named = under(scope, arrays)
    write = checkpoints.WriteOp({name: tf.constant(values) for name, values in named.items()})
    with tf.Session() as session:
        for number in ("one", "two"):
            write(session, tmp_path / number)
    for ending in (".index", ".data-00000-of-00001"):
        assert (tmp_path / ("one" + ending)).read_bytes() == (tmp_path / ("two" + ending)).read_bytes()
    with tf.Graph().as_default(), tf.Session() as session:
        theirs = [tf.get_variable(name, values.shape, use_resource=False) for name, values in named.items()]
        tf.train.Saver(theirs).restore(session, str(tmp_path / "one"))
        for variable in theirs:
            np.testing.assert_array_equal(session.run(variable), named[variable.op.name])


def refusal(prefix, shapes):
    with pytest.raises(checkpoints.CheckpointError) as told:
        checkpoints.read_weights(prefix, shapes)
    return str(told.value)


def test_everything_that_does_not_fit_is_listed(tmp_path, write_original, arrays, built):
    changed = dict(
        arrays,
        **{
            "fc_2/weights": np.zeros((2, 2), np.float32),
            "Bottleneck/weights": np.zeros((2000, 32), np.float32),
            "Logits/biases": np.zeros(8, np.float32),
        },
    )
    del changed["Conv2d_3/BatchNorm/beta"]
    told = refusal(write_original(tmp_path / "model", under("CovPoolNetwork", changed)), shapes_of(built))
    assert told.split("\n")[1:] == [
        "  CovPool2/Conv2d_3/BatchNorm/beta: is missing",
        "  CovPool2/fc_2/weights: the network has no such weight",
        "  CovPool2/Bottleneck/weights: expected shape [2000, 16], got [2000, 32]",
        "  Logits/biases: expected shape [7], got [8]",
    ]


def test_half_of_the_logits_is_not_enough(tmp_path, write_original, arrays, built):
    half = {name: values for name, values in arrays.items() if name != "Logits/biases"}
    assert "Logits/biases: is missing" in refusal(
        write_original(tmp_path / "m", under("CovPool2", half)), shapes_of(built)
    )


def test_a_foreign_scope_is_told_with_the_known_ones(tmp_path, write_original, arrays, built):
    told = refusal(write_original(tmp_path / "m", under("InceptionResnetV1", arrays)), shapes_of(built))
    assert "InceptionResnetV1/" in told and "CovPool2, CovPoolNetwork, DLP-CNN" in told


def test_no_checkpoint_is_told_with_the_files_that_were_wanted(tmp_path, built):
    (tmp_path / "text.index").write_text("no checkpoint")
    for name in ("absent", "text", "absent.data-00000-of-00001"):
        told = refusal(tmp_path / name, shapes_of(built))
        assert str(tmp_path / name) + ".index" in told and "\n" not in told


def test_a_damaged_checkpoint_is_told(tmp_path, write_original, arrays, built):
    prefix = write_original(tmp_path / "model", under("CovPool2", arrays))
    data = tmp_path / "model.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    assert re.search("damaged", refusal(prefix, shapes_of(built)))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    data.write_bytes(bytes(flipped))
    assert re.search("damaged", refusal(prefix, shapes_of(built)))


def test_weights_that_are_not_finite_are_told(tmp_path, write_original, arrays, built):
    bad = dict(arrays, **{"Conv2d_1/weights": arrays["Conv2d_1/weights"] * np.nan})
    told = refusal(write_original(tmp_path / "model", under("CovPool2", bad)), shapes_of(built))
    assert "not finite in CovPool2/Conv2d_1/weights" in told
