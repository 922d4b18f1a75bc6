"""Shared by the tests of devices: parameters of a small run, and the stand-in for npu_bridge."""

import os
import sys

import pytest

from covpool.config import parse_params
from covpool.networks import covpoolnet
from tests.tf.devices.npu_standin import STANDIN
from tests.tf.training.training_project import SMALL, content_with


@pytest.fixture(scope="session")
def params_with():
    """params_with({dotted key: value}) -> params.Params of the small run, changed."""
    return lambda changes=None: parse_params(content_with(dict(SMALL, **(changes or {}))))


@pytest.fixture
def narrow(monkeypatch):
    """Networks with 16 instead of 2000 units in fc_1, which has nearly all weights: their sessions are much faster."""
    monkeypatch.setattr(covpoolnet, "FC_1", 16)


@pytest.fixture(params=["2021", "2026"])
def both_generations(request, monkeypatch):
    """Before `npu_bridge`: the test runs with an adapter of either generation."""
    monkeypatch.setenv("NPU_BRIDGE_GENERATION", request.param)
    return request.param


@pytest.fixture
def npu_host(monkeypatch):
    """An environment in which npu-smi and npu_bridge are found, the latter as the stand-in."""
    monkeypatch.setenv("PATH", str(STANDIN / "bin") + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))
    # So that it is put back where opening an NPU sets it.
    monkeypatch.setenv("ASCEND_DEVICE_ID", "0")
    monkeypatch.delenv("DEVICE_ID", raising=False)


@pytest.fixture
def npu_bridge(npu_host, monkeypatch):
    """The stand-in in this process; gives its list of recorded sessions."""
    monkeypatch.syspath_prepend(str(STANDIN))
    from npu_bridge import sessions

    yield sessions
    sessions.give_back()
    for name in [name for name in sys.modules if name.split(".")[0] == "npu_bridge"]:
        del sys.modules[name]
