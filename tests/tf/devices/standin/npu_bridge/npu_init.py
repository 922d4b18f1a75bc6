"""The names that the project takes from npu_bridge.npu_init."""

from npu_bridge import contract, hccl_ops, npu_ops, npu_scope, sessions, util
from npu_bridge.loss_scale import ExponentialUpdateLossScaleManager, FixedLossScaleManager, NPULossScaleOptimizer

__all__ = [
    "ExponentialUpdateLossScaleManager",
    "FixedLossScaleManager",
    "NPULossScaleOptimizer",
    "hccl_ops",
    "npu_ops",
    "npu_scope",
    "util",
]

if contract.GENERATION == "2026":

    def npu_distributed_optimizer_wrapper(optimizer):
        """What newer adapters have in place of NPUDistributedOptimizer; the project calls hccl_ops itself."""
        raise NotImplementedError("the project sums over workers by hccl_ops, never by this wrapper")


sessions.take_over()
