"""Checks of what the SPD layers accept: matrices [B, n, n] in float32 or float64, with n static; B may be unknown."""

from typing import Union

import numpy as np
import tensorflow.compat.v1 as tf

#: What the layers take: a tensor, a variable, or an array that becomes a constant.
FloatArray = Union[tf.Tensor, tf.Variable, np.ndarray]

ACCEPTED = (tf.float32, tf.float64)


def as_batch(value: FloatArray, name: str, axes: str) -> tf.Tensor:
    """Convert `value` to a float tensor of rank 3.

    Args:
        value: three axes, float32 or float64.
        name: of the argument, for the message.
        axes: the expected axes, for the message, such as "B, P, C".

    Returns:
        The tensor.

    Raises:
        ValueError: if the dtype is another one, or the rank is not 3.
    """
    tensor = tf.convert_to_tensor(value)
    if tensor.dtype.base_dtype not in ACCEPTED:
        raise ValueError(
            f"expected {name} to be float32 or float64, got {tensor.dtype.name}: cast it (half precision cannot "
            "represent a ridge of 1e-4 beside large variances)"
        )
    if tensor.shape.ndims != 3:
        raise ValueError(f"expected {name} of shape [{axes}], got {tensor.shape}: reshape it to one batch axis")
    return tensor


def last_size(tensor: tf.Tensor, name: str) -> int:
    """Return the static size of the last axis.

    Raises:
        ValueError: if it is unknown.
    """
    size = tensor.shape.as_list()[-1]
    if size is None:
        raise ValueError(f"the last axis of {name} must be static, got shape {tensor.shape}: set it with set_shape")
    return size


def as_square_batch(value: FloatArray, name: str) -> tf.Tensor:
    """Convert `value` to a float tensor [B, n, n] with n static.

    Raises:
        ValueError: if the dtype or the shape differs.
    """
    tensor = as_batch(value, name, "B, n, n")
    rows, columns = tensor.shape.as_list()[1:]
    if rows is None or rows != columns:
        raise ValueError(f"expected {name} to be square matrices [B, n, n] of static size, got shape {tensor.shape}")
    return tensor


def as_frame(w: FloatArray, rows: int, dtype: tf.DType) -> tf.Tensor:
    """Convert a BiMap weight to a tensor [rows, m] of `dtype`; a variable is read.

    Raises:
        ValueError: if the dtype or the shape differs.
    """
    frame = tf.convert_to_tensor(w)
    if frame.dtype.base_dtype != dtype or frame.shape.ndims != 2 or frame.shape.as_list()[0] != rows:
        raise ValueError(
            f"expected w to be {dtype.name} of shape [{rows}, m] to fit the input, got {frame.dtype.name} of shape "
            f"{frame.shape}"
        )
    return frame


def transposed(x: tf.Tensor) -> tf.Tensor:
    """Transpose each matrix: [B, n, m] -> [B, m, n]."""
    return tf.transpose(x, [0, 2, 1])


def symmetric_part(x: tf.Tensor) -> tf.Tensor:
    """Compute (X + X^T) / 2 of each matrix [B, n, n]; its gradient is the symmetric part of the incoming one."""
    return 0.5 * (x + transposed(x))
