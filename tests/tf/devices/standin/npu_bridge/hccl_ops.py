"""HCCL's operations that the project uses.

Where the test has given the process a Horovod to go by, the workers exchange through that. Otherwise it is as if all
workers had the same: a sum is so many times the tensor.
"""

import os

import tensorflow.compat.v1 as tf

from npu_bridge import contract

#: What was exchanged in a graph: (tensor, fusion).
EXCHANGED = "npu_bridge_exchanged"
_TYPES = (tf.int8, tf.int32, tf.float16, tf.float32)


def allreduce(tensor, reduction, fusion=1, fusion_id=-1, group="hccl_world_group"):
    size = contract.workers(os.environ)
    if not isinstance(tensor, tf.Tensor) or tensor.dtype not in _TYPES or not tensor.shape.is_fully_defined():
        raise contract.ContractError(f"allreduce of {tensor}")
    if reduction not in ("max", "min", "prod", "sum") or fusion not in (0, 1, 2) or (fusion == 2) != (fusion_id >= 0):
        raise contract.ContractError(f"allreduce by {reduction}, fusion {fusion}, {fusion_id}")
    if reduction != "sum" or group != "hccl_world_group":
        raise NotImplementedError("only sums over all workers are met here")
    tf.add_to_collection(EXCHANGED, (tensor, fusion))
    with tf.name_scope("npu_bridge"):
        if "HOROVOD_GLOO_RENDEZVOUS_ADDR" not in os.environ:
            return tf.multiply(tensor, tf.constant(size, tensor.dtype), "HcomAllReduce")
        return _horovod(size).allreduce(tensor, op=_horovod(size).Sum)


def _horovod(size):
    import horovod.tensorflow as horovod

    if not horovod.is_initialized():
        rank = os.environ["RANK_ID"]
        os.environ.update(
            HOROVOD_HOSTNAME="localhost",
            HOROVOD_RANK=rank,
            HOROVOD_SIZE=str(size),
            HOROVOD_LOCAL_RANK=rank,
            HOROVOD_LOCAL_SIZE=str(size),
            HOROVOD_CROSS_RANK="0",
            HOROVOD_CROSS_SIZE="1",
        )
        horovod.init()
    return horovod
