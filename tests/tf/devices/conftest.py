"""Shared by the tests of devices: parameters of a small run, and the stand-in for npu_bridge."""

import os
import stat
import sys

import pytest

from covpool.config import parse_params
from covpool.networks import covpoolnet
from tests.tf.devices.npu_graphs import COVARIANCE, graph_on, opened
from tests.tf.devices.npu_standin import STANDIN
from tests.tf.training.training_project import SMALL, content_with

#: nvidia-smi as it answers `--query-gpu=power.draw,memory.used --format=csv,noheader,nounits`: a program that knows two
#: cards and nothing else. What it prints for the first is in a file beside it; each call leaves a line in another.
NVIDIA_SMI = """#!{python}
import pathlib, sys, time
here = pathlib.Path(__file__).parent
sys.path[:] = []
wanted = ["--query-gpu=power.draw,memory.used", "--format=csv,noheader,nounits"]
if sys.argv[1:3] != wanted or len(sys.argv) != 4 or not sys.argv[3].startswith("--id="):
    sys.exit("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.")
if sys.argv[3] not in ("--id=3", "--id=GPU-5c19d5b0-02f5-4f4c-a2c5-1f1c2c6a8a1e"):
    print("No devices were found")
    sys.exit(6)
with open(str(here / "asked"), "a") as stream:
    stream.write(sys.argv[3] + "\\n")
text = (here / "answer").read_text()
if text == "hang":
    time.sleep(600)
print(text)
sys.exit(9 if text.startswith("NVIDIA-SMI has failed") else 0)
"""


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


@pytest.fixture
def program(tmp_path, monkeypatch):
    """program(name, text): an executable of that name on the PATH; gives its folder."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.environ["PATH"])

    def make(name, text):
        path = folder / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return folder

    return make


@pytest.fixture
def nvidia_smi(program):
    """nvidia_smi(text): what it answers for card 3 from now on."""
    folder = program("nvidia-smi", NVIDIA_SMI.format(python=sys.executable))
    return (folder / "answer").write_text


@pytest.fixture
def npu_smi(program):
    def answers(text):
        program("npu-smi", f"#!/bin/sh\n[ \"$*\" = info ] || exit 1\ncat <<'TABLE'\n{text}\nTABLE\n")

    return answers


@pytest.fixture
def built(params_with, npu_bridge, narrow):
    """built(changes) -> the training graph of the small run on the NPU."""

    def make(changes=None):
        params = params_with(dict(COVARIANCE, **(changes or {})))
        return graph_on(opened(params), params)

    return make
