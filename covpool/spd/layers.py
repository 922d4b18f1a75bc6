"""BiMap, and the vectorisation of a symmetric matrix.

BiMap is the bilinear mapping layer of Huang and Van Gool, A Riemannian Network for SPD Matrix Learning, AAAI 2017,
arXiv 1608.04233; W here is the transpose of theirs.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.spd.shapes import FloatArray, as_frame, as_square_batch, transposed

VECTORISATIONS = ("full", "upper")


def bimap(x: FloatArray, w: FloatArray) -> tf.Tensor:
    """Compute W^T X W for each matrix of a batch.

    Args:
        x: [B, n, n], float32 or float64.
        w: [n, m] of the same dtype. If its columns are orthonormal, positive definite matrices stay positive definite
            and eigenvalues stay within the bounds of those of X.

    Returns:
        [B, m, m].

    Raises:
        ValueError: if a shape or a dtype does not fit.
    """
    x = as_square_batch(x, "x")
    size = x.shape.as_list()[1]
    w = as_frame(w, size, x.dtype)
    columns = w.shape.as_list()[1]

    def times_w(left, rows):
        return tf.reshape(tf.matmul(tf.reshape(left, [-1, size]), w), [-1, rows, columns])

    # Each is one tall matrix product, instead of a copy of W for every matrix of the batch.
    return transposed(times_w(transposed(times_w(x, size)), columns))


def vectorise(x: FloatArray, mode: str = "full") -> tf.Tensor:
    """Write symmetric matrices as vectors.

    Args:
        x: [B, n, n], float32 or float64.
        mode: "full" gives all n^2 entries row by row, as the original code does. "upper" gives the upper triangle of
            the symmetric part row by row, with off-diagonal entries times sqrt(2), so that inner products are kept:
            <vec X, vec Y> = trace(X Y).

    Returns:
        [B, n^2] for "full", [B, n (n + 1) / 2] for "upper".

    Raises:
        ValueError: if `mode` is unknown, or the matrices are not square.
    """
    x = as_square_batch(x, "x")
    size = x.shape.as_list()[1]
    if mode == "full":
        return tf.reshape(x, [-1, size * size])
    if mode == "upper":
        return _upper_triangle(x, size)
    raise ValueError(f"mode must be one of {', '.join(VECTORISATIONS)}, got {mode!r}")


def upper_weights(weights: np.ndarray) -> np.ndarray:
    """Convert the weights of a layer on `vectorise(X, "full")` to those of the same layer on `vectorise(X, "upper")`.

    An off-diagonal entry of a symmetric matrix is multiplied by the weights of its two places, so these are added. The
    products stay the same, and only half of the weights have to be read.

    Args:
        weights: [n^2, m], a float array.

    Returns:
        [n (n + 1) / 2, m] of the same dtype.

    Raises:
        ValueError: if the number of rows is not a square.
    """
    weights = np.asarray(weights)
    size = int(round(np.sqrt(len(weights))))
    if size * size != len(weights):
        raise ValueError(f"expected weights with n^2 rows, one for each entry of a matrix, got shape {weights.shape}")
    rows, columns = np.triu_indices(size)
    both = weights[rows * size + columns].astype(np.float64) + weights[columns * size + rows]
    both *= np.where(rows == columns, 0.5, np.sqrt(0.5))[:, np.newaxis]
    return both.astype(weights.dtype)


def _upper_triangle(x, size):
    """[B, n, n] -> [B, n (n + 1) / 2], with a gradient that is a gather."""
    rows, columns = np.triu_indices(size)
    scale = np.where(rows == columns, 1.0, np.sqrt(2.0)).astype(x.dtype.as_numpy_dtype)
    place = np.zeros([size, size], np.int32)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    upper, lower = (rows * size + columns).astype(np.int32), (columns * size + rows).astype(np.int32)

    # TensorFlow's gradient of a gather is a scatter of unknown shape, which is slow on accelerators. The exact gradient
    # can be written as a gather, too.
    @tf.custom_gradient
    def gathered(flat):
        def gradient(dy):
            half = np.where(rows == columns, scale, 0.5 * scale)
            return tf.gather(dy * half, place.reshape(-1), axis=1)

        return 0.5 * scale * (tf.gather(flat, upper, axis=1) + tf.gather(flat, lower, axis=1)), gradient

    return gathered(tf.reshape(x, [-1, size * size]))
