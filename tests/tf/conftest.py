"""What every TensorFlow test needs: graph mode under any build, a fresh graph, and a way to evaluate one."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

if tf.__version__.startswith("2."):
    tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.ERROR)

# The same examples in every run. Building a graph takes longer than hypothesis allows an example, and 6.79, the last
# release for Python 3.7, now and then refuses small strategies as too large.
hypothesis.settings.register_profile(
    "tensorflow",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
hypothesis.settings.load_profile("tensorflow")

# The first session of a process decides for all how many threads an operation has, and on that the last digit of a sum
# over many numbers depends: as many here as in the stages that the tests compare with.
with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=len(os.sched_getaffinity(0)))):
    pass

ONE_THREAD = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


@pytest.fixture
def evaluate():
    """evaluate(fetches, feed) in a session of its own, variables initialised."""

    def run(fetches, feed=None):
        with tf.Session(config=ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            return session.run(fetches, feed)

    return run


@pytest.fixture
def value_and_gradients(evaluate):
    """value_and_gradients(function, arrays, cotangent): function(*arrays) and the gradients of <cotangent, value>."""

    def run(function, arrays, cotangent):
        inputs = [tf.constant(array) for array in arrays]
        value = function(*inputs)
        gradients = tf.gradients(value, inputs, grad_ys=tf.constant(np.asarray(cotangent, arrays[0].dtype)))
        return evaluate([value, gradients])

    return run
