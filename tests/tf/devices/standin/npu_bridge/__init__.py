"""A stand-in for npu_bridge, Ascend's TensorFlow 1.15 adapter: it enforces the contract, and computes on the processor.

What the adapter would die of, pass over or not run on the chip is an error here: see `contract`. All it knows is from
the adapter's sources and documents. It has no half precision, no compiler and no speed of an NPU, and so can't tell
that a run works on one. `NPU_BRIDGE_GENERATION` says which adapter it is like: 2021 or 2026.
"""

__version__ = "v1.15.0"
