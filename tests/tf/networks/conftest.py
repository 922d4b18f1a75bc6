"""Shared by the tests of the networks: parameters, and checkpoints as the original writes them."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool.config import Network, Spd


@pytest.fixture
def network():
    """network(model_def, **changes) -> params.Network, with the original's choices."""

    def make(model_def="covpoolnet2", **changes):
        values = dict(
            model_def=model_def,
            pooling="covariance",
            embedding_size=128,
            vectorise="full",
            normalisation="none",
            batch_norm_decay=0.995,
        )
        values.update(changes)
        return Network(**values)

    return make


@pytest.fixture
def spd_settings():
    return Spd(method="eigh", ridge=1e-4, epsilon=1e-4, maximum=1e4)


@pytest.fixture
def write_original():
    """write_original(prefix, arrays by full name): a checkpoint as the original's `tf.train.Saver` writes it."""

    def write(prefix, arrays):
        with tf.Graph().as_default():
            for name, values in arrays.items():
                values = np.asarray(values)
                tf.get_variable(
                    name, values.shape, tf.as_dtype(values.dtype), tf.constant_initializer(values), use_resource=False
                )
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                return tf.train.Saver().save(session, str(prefix), write_meta_graph=False, write_state=False)

    return write
