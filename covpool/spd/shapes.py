"""What the SPD layers accept: batches of matrices in float32 or float64, of static size; the batch may be unknown."""

import tensorflow.compat.v1 as tf

ACCEPTED = (tf.float32, tf.float64)


def as_batch(value, name, axes):
    """`value` as a rank-3 float tensor; ValueError names what was given, with the `axes` that were wanted."""
    tensor = tf.convert_to_tensor(value)
    if tensor.dtype.base_dtype not in ACCEPTED:
        raise ValueError(
            f"{name} is {tensor.dtype.name}, wanted float32 or float64: cast it (half precision cannot "
            "hold a ridge of 1e-4 beside large variances)"
        )
    if tensor.shape.ndims != 3:
        raise ValueError(f"{name} has shape {tensor.shape}, wanted [{axes}]: reshape it to one batch axis")
    return tensor


def last_size(tensor, name):
    """Static size of the last axis; ValueError where it is unknown."""
    size = tensor.shape.as_list()[-1]
    if size is None:
        raise ValueError(f"{name} has shape {tensor.shape}, wanted a static last axis: set it with set_shape")
    return size


def as_square_batch(value, name):
    """`value` as a tensor [B, n, n] with n static."""
    tensor = as_batch(value, name, "B, n, n")
    rows, columns = tensor.shape.as_list()[1:]
    if rows is None or rows != columns:
        raise ValueError(f"{name} has shape {tensor.shape}, wanted square matrices [B, n, n] of static size")
    return tensor


def as_frame(w, rows, dtype):
    """A BiMap weight as a tensor [rows, m] of `dtype`; a variable is read."""
    frame = tf.convert_to_tensor(w)
    if frame.dtype.base_dtype != dtype or frame.shape.ndims != 2 or frame.shape.as_list()[0] != rows:
        raise ValueError(
            f"w is {frame.dtype.name} of shape {frame.shape}, wanted {dtype.name} of shape [{rows}, m] to fit the input"
        )
    return frame


def transposed(x):
    """Transpose of each matrix of [B, n, m]."""
    return tf.transpose(x, [0, 2, 1])


def symmetric_part(x):
    """(x + x^T) / 2 for each matrix; its gradient is the symmetric part of the incoming one."""
    return 0.5 * (x + transposed(x))
