"""BiMap and the step from a symmetric matrix to a vector.

BiMap is the bilinear mapping layer of Huang and Van Gool, A Riemannian Network for SPD Matrix Learning, AAAI 2017,
arXiv 1608.04233, with W transposed to theirs.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.spd.shapes import as_frame, as_square_batch, transposed

VECTORISATIONS = ("full", "upper")


def bimap(x, w):
    """W^T X W for each matrix of the batch.

    x: [B, n, n]; w: [n, m], orthonormal columns where X must stay positive definite. Returns [B, m, m].
    """
    x = as_square_batch(x, "x")
    size = x.shape.as_list()[1]
    w = as_frame(w, size, x.dtype)
    columns = w.shape.as_list()[1]

    def times_w(left, rows):
        return tf.reshape(tf.matmul(tf.reshape(left, [-1, size]), w), [-1, rows, columns])

    # One tall matrix product each, instead of W repeated for every matrix of the batch.
    return transposed(times_w(transposed(times_w(x, size)), columns))


def vectorise(x, mode="full"):
    """A symmetric matrix as a vector.

    mode "full": all n^2 entries, row by row, as the original does. Returns [B, n^2].
    mode "upper": the upper triangle row by row, off-diagonals times sqrt 2, so that inner products are kept: <vec X,
    vec Y> = trace(X Y). Returns [B, n (n + 1) / 2]. It reads the symmetric part of x.
    """
    x = as_square_batch(x, "x")
    size = x.shape.as_list()[1]
    if mode == "full":
        return tf.reshape(x, [-1, size * size])
    if mode == "upper":
        return _upper_triangle(x, size)
    raise ValueError("mode is {!r}, wanted one of {}".format(mode, ", ".join(VECTORISATIONS)))


def upper_weights(weights):
    """Weights of a layer on `vectorise(X, "full")` as weights of the same layer on `vectorise(X, "upper")`.

    An entry of a symmetric matrix meets the weights of its two places, so that what it adds is their sum. weights:
    array [n^2, m]. Returns [n (n + 1) / 2, m] of the same type, half of what has to be read for a product.
    """
    weights = np.asarray(weights)
    size = int(round(np.sqrt(len(weights))))
    if size * size != len(weights):
        raise ValueError(f"weights has shape {weights.shape}: wanted n^2 rows, one for each entry of a matrix")
    rows, columns = np.triu_indices(size)
    both = weights[rows * size + columns].astype(np.float64) + weights[columns * size + rows]
    both *= np.where(rows == columns, 0.5, np.sqrt(0.5))[:, np.newaxis]
    return both.astype(weights.dtype)


def _upper_triangle(x, size):
    rows, columns = np.triu_indices(size)
    scale = np.where(rows == columns, 1.0, np.sqrt(2.0)).astype(x.dtype.as_numpy_dtype)
    place = np.zeros([size, size], np.int32)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    upper, lower = (rows * size + columns).astype(np.int32), (columns * size + rows).astype(np.int32)

    # A gather's own gradient is a scatter of open shape, which accelerators dislike; the exact one is a gather too.
    @tf.custom_gradient
    def gathered(flat):
        def gradient(dy):
            half = np.where(rows == columns, scale, 0.5 * scale)
            return tf.gather(dy * half, place.reshape(-1), axis=1)

        return 0.5 * scale * (tf.gather(flat, upper, axis=1) + tf.gather(flat, lower, axis=1)), gradient

    return gathered(tf.reshape(x, [-1, size * size]))
