"""The Stiefel manifold of matrices with orthonormal columns, and an optimiser's step on it.

BiMap's weight lives here (Huang and Van Gool, AAAI 2017). Projection, retraction and transport are those of
Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, 2008, chapters 3, 4 and 8, with the metric of
the surrounding space.
"""

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.spd.constants import POLAR_LOWEST, machine_epsilon
from covpool.spd.schulz import scaled_steps
from covpool.spd.scope import in_scope

RETRACTIONS = ("qr", "polar")

FIRST_MOMENT_SLOTS = ("m", "momentum")
"""Optimiser slots that average gradients or steps (ADAM; MOM, RMSPROP): tangent vectors, hence transported.

The others (ADAM's v, ADAGRAD's accumulator, RMSPROP's rms, ADADELTA's two) average squares entry by entry: scales,
not tangent vectors. A projection would mean nothing to them and could make them negative under a square root.
"""


def random_orthonormal(rng, rows, cols, dtype=np.float32):
    """A [rows, cols] matrix of orthonormal columns, uniform on the manifold: Q of a Gaussian's QR, diag(R) > 0.

    rng: numpy RandomState or Generator; equal states give equal matrices. rows >= cols.
    """
    if rows < cols:
        raise ValueError(f"rows is {rows} and cols is {cols}, wanted rows >= cols")
    q, r = np.linalg.qr(rng.standard_normal(size=(rows, cols)))
    return (q * np.where(np.diag(r) < 0, -1.0, 1.0)).astype(dtype)


@in_scope
def tangent_project(w, g):
    """Orthogonal projection of g onto the tangent space at w: g - w sym(w^T g). Both [n, m]."""
    inner = tf.matmul(w, g, transpose_a=True)
    return g - tf.matmul(w, 0.5 * (inner + tf.transpose(inner)))


@in_scope
def retract(w, method="qr"):
    """The matrix with orthonormal columns that stands for w after a step. w: [n, m] of full column rank.

    method "qr": Q of w = Q R with diag(R) > 0, so that columns never flip.
    method "polar": w (w^T w)^(-1/2), the nearest one, by matrix products only, for accelerators on which a QR is slow.
    It wants every singular value above `constants.POLAR_LOWEST` of sqrt(|w^T w|), the Frobenius norm of w^T w; a
    smaller one comes out below 1 and is raised again at the next call.
    """
    if method == "qr":
        return _qr_with_signs(w)
    if method == "polar":
        return _polar_factor(w)
    raise ValueError("method is {!r}, wanted one of {}".format(method, ", ".join(RETRACTIONS)))


def _qr_with_signs(w):
    q, r = tf.linalg.qr(w)
    columns = w.shape.as_list()[1]
    # Not linalg.diag_part: its kernel stays on the host of some accelerators.
    diagonal = tf.reduce_sum(r * tf.constant(np.eye(columns), r.dtype), axis=0)
    return q * tf.where(diagonal < 0, -tf.ones_like(diagonal), tf.ones_like(diagonal))


def _polar_factor(w):
    gram = tf.matmul(w, w, transpose_a=True)
    # Both bound the largest eigenvalue of w^T w; the row sums do so tightly beside the manifold.
    frobenius = tf.sqrt(tf.reduce_sum(tf.square(gram)))
    row_sums = tf.reduce_max(tf.reduce_sum(tf.abs(gram), axis=1))
    result = w / tf.sqrt(tf.minimum(frobenius, row_sums))
    steps, _ = scaled_steps(POLAR_LOWEST, 1 - machine_epsilon(w.dtype.base_dtype))
    for a, r in steps:
        result = a * (result - r * tf.matmul(result, tf.matmul(result, result, transpose_a=True)))
    return result


def transport(w_new, moment):
    """A moment carried to the tangent space at w_new, by projection. Both [n, m]."""
    return tangent_project(w_new, moment)


def apply_on_stiefel(optimizer, grads_and_vars, stiefel_vars, global_step=None, retraction="qr", slot_owner=None):
    """One train op: tangent gradients, the optimiser's update, retraction, transported moments, then the step count.

    Like `optimizer.apply_gradients(grads_and_vars, global_step)`, for any tf.train.Optimizer, but that the variables
    in `stiefel_vars` stay on the manifold. Each of them is read after its update and its moments after its retraction:
    when the op is done, so is everything, and `global_step` counts finished steps. What else reads W in the same
    session.run is not ordered against this op; let it depend on the op, or run it by itself.
    A moving average of W is not on the manifold: retract it before use.

    grads_and_vars: of `optimizer.compute_gradients`. stiefel_vars: variables [n, m]; reference and resource variables
    both serve. slot_owner: the optimiser that keeps the moments, where `optimizer` only wraps it (loss scaling) and
    does not pass its slots on. Returns the op.
    """
    stiefel_vars = list(stiefel_vars)
    names = set(w.name for w in stiefel_vars)
    missing = names - set(v.name for g, v in grads_and_vars if g is not None)
    if missing:
        raise ValueError(
            "no gradient for the Stiefel variables {}: wanted each in grads_and_vars".format(", ".join(sorted(missing)))
        )
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
    return tangent_project(tf.convert_to_tensor(w), tf.convert_to_tensor(g))


def _return_to_manifold(slot_owner, w, update, retraction):
    """Op: w retracted once `update` is done, then its first moments transported to the new w."""
    with tf.control_dependencies([update]):
        # A fresh read, not the variable's cached value: that one may be older than the update.
        w_new = retract(w.read_value(), retraction)
    retracted = tf.assign(w, w_new).op
    slots = [slot_owner.get_slot(w, name) for name in FIRST_MOMENT_SLOTS if name in slot_owner.get_slot_names()]
    with tf.control_dependencies([retracted]):
        return tf.group(retracted, *[tf.assign(slot, transport(w_new, slot.read_value())).op for slot in slots])
