"""Loss scaling: the loss is multiplied before the gradients, these are divided after, and an overflow skips the update.

On the device an overflow is seen by a status of the chip; here by gradients that are not finite.
"""

import tensorflow.compat.v1 as tf

from npu_bridge import hccl_ops

_LARGEST = 3.4e38


class FixedLossScaleManager:
    def __init__(self, loss_scale, enable_overflow_check=True):
        if loss_scale < 1:
            raise ValueError("loss scale must be at least 1.")
        self.scale = tf.constant(loss_scale, tf.float32)
        self.checks = enable_overflow_check

    def update(self, finite):
        return tf.no_op()


class ExponentialUpdateLossScaleManager:
    checks = True

    def __init__(self, init_loss_scale, incr_every_n_steps, decr_every_n_nan_or_inf=2, incr_ratio=2, decr_ratio=0.8):
        def counter(name, value, dtype):
            return tf.get_variable(
                "npu_bridge/" + name, initializer=tf.constant(value, dtype), trainable=False, use_resource=True
            )

        self.scale = counter("loss_scale", init_loss_scale, tf.float32)
        self._good, self._bad = counter("good_steps", 0, tf.int32), counter("bad_steps", 0, tf.int32)
        self._every = incr_every_n_steps, decr_every_n_nan_or_inf
        self._ratio = incr_ratio, decr_ratio

    def update(self, finite):
        good = tf.where(finite, self._good + 1, 0)
        bad = tf.where(finite, self._bad, self._bad + 1)
        up, down = good >= self._every[0], bad >= self._every[1]
        larger = tf.minimum(self.scale * self._ratio[0], _LARGEST)
        scale = tf.where(up, larger, tf.where(down, tf.maximum(1.0, self.scale * self._ratio[1]), self.scale))
        reset = tf.logical_or(up, down)
        with tf.control_dependencies([scale, good, bad]):
            return tf.group(
                self.scale.assign(scale),
                self._good.assign(tf.where(reset, 0, good)),
                self._bad.assign(tf.where(reset, 0, bad)),
            )


class NPULossScaleOptimizer(tf.train.Optimizer):
    """Wraps an optimiser; its own slots are empty, as the real one's are."""

    def __init__(self, opt, loss_scale_manager, is_distributed=False):
        super().__init__(use_locking=False, name="NPULossScaleOptimizer")
        if not isinstance(opt, tf.train.Optimizer):
            raise ValueError(f"opt must be an optimizer, but got {type(opt)}")
        self._opt = opt
        self._manager = loss_scale_manager
        self._is_distributed = is_distributed

    def compute_gradients(self, loss, var_list=None, **options):
        scale = tf.convert_to_tensor(self._manager.scale)
        with tf.name_scope("npu_bridge"):
            scaled = loss * scale
        return [
            (None if g is None else g / scale, v) for g, v in self._opt.compute_gradients(scaled, var_list, **options)
        ]

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        grads_and_vars = list(grads_and_vars)
        with tf.name_scope("npu_bridge"):
            each = [tf.reduce_all(tf.is_finite(g)) for g, _ in grads_and_vars if g is not None]
            finite = tf.reduce_all(tf.stack(each))
            if self._is_distributed:
                # The status of all chips together.
                finite = tf.equal(hccl_ops.allreduce(tf.cast(tf.logical_not(finite), tf.float32), "sum", fusion=0), 0)
            if not self._manager.checks:
                finite = tf.constant(True)
            updated = tf.cond(finite, lambda: self._opt.apply_gradients(grads_and_vars, global_step, name), tf.no_op)
            return tf.group(updated, self._manager.update(finite))
