"""The parameters of the small run, and the stand-in for npu_bridge."""

from tests.tf.devices.conftest import (  # noqa: F401 - fixtures
    both_generations,
    narrow,
    npu_bridge,
    npu_host,
    params_with,
)
