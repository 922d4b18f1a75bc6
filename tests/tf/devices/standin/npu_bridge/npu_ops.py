"""The adapter's operations that the project uses, made of TensorFlow's."""

import numbers

import tensorflow.compat.v1 as tf


def dropout(x, keep_prob, noise_shape=None, seed=None, name=None):
    """Keeps a share `keep_prob` of x; on the device DropOutGenMask and DropOutDoMask."""
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        raise ValueError("x must be a floating point tensor.")
    if isinstance(keep_prob, numbers.Real) and not 0 < keep_prob <= 1.0:
        raise ValueError("keep_prob must be a float value or a scalar tensor in the range (0, 1]")
    if keep_prob == 1.0:
        return x
    with tf.name_scope("npu_bridge"):
        mask = tf.cast(tf.random.uniform(noise_shape or x.shape, seed=seed) < keep_prob, x.dtype)
        return x * (mask / keep_prob)
