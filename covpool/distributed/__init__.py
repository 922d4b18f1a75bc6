"""Several workers that train one network: how they are started, how they find each other, and what they exchange.

`launcher` and `hccl_environment` need the standard library only; `workers` and `hccl` need TensorFlow.
"""
