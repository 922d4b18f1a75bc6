"""Starts and connects the workers that train one network together, and exchanges their tensors.

`launcher` and `hccl_environment` need the standard library only; `workers` and `hccl` need TensorFlow.
"""
