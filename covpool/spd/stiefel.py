"""The Stiefel manifold of matrices with orthonormal columns, and an optimiser's step on it.

BiMap's weight is a point on it (Huang and Van Gool, AAAI 2017). Projection, retraction and transport are those of
Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008, chapters 3, 4 and 8, with the Euclidean
metric.
"""

from typing import Any, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.spd.constants import POLAR_LOWEST, machine_epsilon
from covpool.spd.schulz import scaled_steps
from covpool.spd.scope import in_scope
from covpool.spd.shapes import FloatArray

RETRACTIONS = ("qr", "polar")

FIRST_MOMENT_SLOTS = ("m", "momentum")
"""Optimiser slots that average gradients or steps (ADAM; MOM, RMSPROP): tangent vectors, so they are transported.

The others (ADAM's v, ADAGRAD's accumulator, RMSPROP's rms, ADADELTA's two) average squares of entries: they are scales,
not tangent vectors. A projection would have no meaning and could make them negative under a square root.
"""


def random_orthonormal(rng: Any, rows: int, cols: int, dtype: Any = np.float32) -> np.ndarray:
    """Draw a matrix with orthonormal columns, uniform on the manifold: Q of a Gaussian matrix's QR with diag(R) > 0.

    Args:
        rng: a NumPy `RandomState` or `Generator`; equal states give equal matrices.
        rows: number of rows, at least `cols`.
        cols: number of columns.
        dtype: of the result; the computation is in float64.

    Returns:
        [rows, cols].

    Raises:
        ValueError: if there are more columns than rows.
    """
    if rows < cols:
        raise ValueError(f"expected rows >= cols, got {rows} rows and {cols} cols")
    q, r = np.linalg.qr(rng.standard_normal(size=(rows, cols)))
    return (q * np.where(np.diag(r) < 0, -1.0, 1.0)).astype(dtype)


@in_scope
def tangent_project(w: FloatArray, g: FloatArray) -> tf.Tensor:
    """Project G orthogonally onto the tangent space at W: G - W sym(W^T G).

    Args:
        w: [n, m], orthonormal columns.
        g: [n, m] of the same dtype.

    Returns:
        [n, m].
    """
    inner = tf.matmul(w, g, transpose_a=True)
    return g - tf.matmul(w, 0.5 * (inner + tf.transpose(inner)))


@in_scope
def retract(w: tf.Tensor, method: str = "qr") -> tf.Tensor:
    """Map W back to the manifold after a step.

    Args:
        w: [n, m] of full column rank.
        method: "qr" gives Q of W = Q R with diag(R) > 0, so that columns never change their sign. "polar" gives
            W (W^T W)^(-1/2), the nearest point of the manifold, by matrix products only, for accelerators on which a QR
            decomposition is slow. It needs every singular value above `constants.POLAR_LOWEST` times sqrt(|W^T W|),
            with the Frobenius norm; a smaller one is still below 1 afterwards, and is raised again by the next call.

    Returns:
        [n, m], orthonormal columns.

    Raises:
        ValueError: if `method` is unknown.
    """
    if method == "qr":
        return _qr_with_signs(w)
    if method == "polar":
        return _polar_factor(w)
    raise ValueError(f"method must be one of {', '.join(RETRACTIONS)}, got {method!r}")


def _qr_with_signs(w):
    """Q of w's QR decomposition with diag(R) > 0."""
    q, r = tf.linalg.qr(w)
    columns = w.shape.as_list()[1]
    # Not linalg.diag_part: with some accelerators its kernel runs on the host.
    diagonal = tf.reduce_sum(r * tf.constant(np.eye(columns), r.dtype), axis=0)
    return q * tf.where(diagonal < 0, -tf.ones_like(diagonal), tf.ones_like(diagonal))


def _polar_factor(w):
    """w (w^T w)^(-1/2) by scaled Newton-Schulz steps."""
    gram = tf.matmul(w, w, transpose_a=True)
    # Both are upper bounds of the largest eigenvalue of w^T w; close to the manifold the row sums are a tight one.
    frobenius = tf.sqrt(tf.reduce_sum(tf.square(gram)))
    row_sums = tf.reduce_max(tf.reduce_sum(tf.abs(gram), axis=1))
    result = w / tf.sqrt(tf.minimum(frobenius, row_sums))
    steps, _ = scaled_steps(POLAR_LOWEST, 1 - machine_epsilon(w.dtype.base_dtype))
    for a, r in steps:
        result = a * (result - r * tf.matmul(result, tf.matmul(result, result, transpose_a=True)))
    return result


def transport(w_new: FloatArray, moment: FloatArray) -> tf.Tensor:
    """Transport a moment to the tangent space at `w_new`, by projection. Both and the result are [n, m]."""
    return tangent_project(w_new, moment)


def apply_on_stiefel(
    optimizer: tf.train.Optimizer,
    grads_and_vars: Sequence[Tuple[Optional[tf.Tensor], tf.Variable]],
    stiefel_vars: Sequence[tf.Variable],
    global_step: Optional[tf.Variable] = None,
    retraction: str = "qr",
    slot_owner: Optional[tf.train.Optimizer] = None,
) -> tf.Operation:
    """Build an optimiser's step that keeps variables on the manifold.

    It is `optimizer.apply_gradients(grads_and_vars, global_step)` for any `tf.train.Optimizer`, in this order: tangent
    gradients, the optimiser's update, retraction, transport of the first moments, step count. Each variable is read
    after its update, and its moments after its retraction, so `global_step` counts finished steps. Other reads of W in
    the same `session.run` are not ordered against this op: make them depend on the op, or run them separately.
    A moving average of W is not on the manifold: retract it before use.

    Args:
        optimizer: computes the update.
        grads_and_vars: from `optimizer.compute_gradients`.
        stiefel_vars: the variables [n, m] that stay on the manifold, reference or resource variables.
        global_step: the variable that counts steps, or None.
        retraction: one of `RETRACTIONS`, see `retract`.
        slot_owner: the optimiser that keeps the moments, if `optimizer` only wraps it (loss scaling) and does not give
            access to its slots.

    Returns:
        The op.

    Raises:
        ValueError: if a variable in `stiefel_vars` has no gradient.
    """
    stiefel_vars = list(stiefel_vars)
    names = set(w.name for w in stiefel_vars)
    missing = names - set(v.name for g, v in grads_and_vars if g is not None)
    if missing:
        raise ValueError(f"expected a gradient for each Stiefel variable, got none for {', '.join(sorted(missing))}")
    projected = [(_tangent_gradient(v, g) if v.name in names else g, v) for g, v in grads_and_vars]
    update = optimizer.apply_gradients(projected)
    finished = [update]
    for w in stiefel_vars:
        finished.append(_return_to_manifold(slot_owner or optimizer, w, update, retraction))
    with tf.control_dependencies(finished):
        if global_step is None:
            return tf.no_op(name="stiefel_step")
        return tf.assign_add(global_step, 1, name="stiefel_step").op


def _tangent_gradient(w, g):
    """The gradient g projected onto the tangent space at the variable w."""
    return tangent_project(tf.convert_to_tensor(w), tf.convert_to_tensor(g))


def _return_to_manifold(slot_owner, w, update, retraction):
    """Op: w retracted once `update` is done, then its first moments transported to the new w."""
    with tf.control_dependencies([update]):
        # A new read: the variable's cached value may be older than the update.
        w_new = retract(w.read_value(), retraction)
    retracted = tf.assign(w, w_new).op
    slots = [slot_owner.get_slot(w, name) for name in FIRST_MOMENT_SLOTS if name in slot_owner.get_slot_names()]
    with tf.control_dependencies([retracted]):
        return tf.group(retracted, *[tf.assign(slot, transport(w_new, slot.read_value())).op for slot in slots])
