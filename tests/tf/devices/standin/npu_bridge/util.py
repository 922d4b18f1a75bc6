"""Loops on the device."""

import tensorflow.compat.v1 as tf

from npu_bridge.contract import ContractError, check_loop
from npu_bridge.sessions import LOOP


def set_iteration_per_loop(sess, train_op, iterations_per_loop=1):
    """The op that runs `train_op` so often in one session.run, on the device. It changes the graph."""
    if not isinstance(train_op, tf.Operation):
        raise ValueError(f"The incoming 'train_op' type is {type(train_op)}, and the need type is 'Operation'")
    if isinstance(iterations_per_loop, bool) or not isinstance(iterations_per_loop, int) or iterations_per_loop < 1:
        raise ValueError(f"iterations_per_loop must be a positive int, got {iterations_per_loop!r}")
    if iterations_per_loop == 1:
        return train_op
    if sess.on_npu.parameters["iterations_per_loop"] != iterations_per_loop:
        raise ContractError("iterations_per_loop of the session's configuration and of the loop differ")
    graph = tf.get_default_graph()
    if graph is not sess.graph:
        raise ContractError("the loop is made in another graph than the session's")
    check_loop(graph, sess.on_npu.parameters)
    # Fails where a variable is called global_step and is none.
    if tf.train.get_global_step() is None:
        raise ContractError("the graph has no global step")
    for name, value in (("iterations_per_loop", iterations_per_loop - 1), ("loop_cond", 0), ("zero", 0), ("one", 1)):
        with tf.variable_scope("npu_runconfig"):
            variable = tf.get_variable(
                name,
                [],
                tf.int64,
                tf.zeros_initializer(),
                trainable=False,
                use_resource=True,
                collections=[tf.GraphKeys.LOCAL_VARIABLES],
            )
        variable.load(value, sess)
    return tf.group(train_op, name=LOOP)
