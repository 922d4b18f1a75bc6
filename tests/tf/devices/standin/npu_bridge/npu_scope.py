"""Scopes that mark operations for the adapter."""

import contextlib

import tensorflow.compat.v1 as tf

from npu_bridge import contract


@contextlib.contextmanager
def keep_dtype_scope():
    """Operations made inside keep their type. A bool in 2021, a number in 2026."""
    mark = tf.AttrValue(b=True) if contract.GENERATION == "2021" else tf.AttrValue(i=1)
    with tf.get_default_graph()._attr_scope({"_keep_dtype": mark}):
        yield
