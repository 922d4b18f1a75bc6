"""Devices: the processor's threads, what the drivers' tools show, and a GPU that is refused where there is none."""

import os
import stat

import pytest
import tensorflow.compat.v1 as tf

from covpool import devices
from covpool.devices import gpu, host, smi


def test_the_processor_has_the_threads_that_were_asked_for():
    cores = len(os.sched_getaffinity(0))
    for asked, given in ((0, cores), (1, 1), (3, 3)):
        opened = devices.open_cpu("cpu", asked)
        assert opened.config.intra_op_parallelism_threads == given == opened.record["threads"]
        assert opened.config.inter_op_parallelism_threads == 1 and opened.kind == "cpu"
    with opened.session(tf.get_default_graph()) as session:
        assert session.run(tf.constant(1)) == 1
        assert {each.device_type for each in session.list_devices()} <= {"CPU", "XLA_CPU"}


def test_the_record_tells_what_was_set_for_speed(monkeypatch):
    """By the launcher, or by hand: the tests themselves are started by it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("SOME_PASSWORD", "hidden")
    settings = devices.describe_host()["settings"]
    assert settings["OMP_NUM_THREADS"] == "2" and settings["KMP_BLOCKTIME"] == os.environ["KMP_BLOCKTIME"]
    assert set(settings) <= set(host.SPEED_SETTINGS)


def test_a_gpu_that_is_not_there_is_refused(params_with, monkeypatch):
    if os.path.exists("/proc/driver/nvidia/version"):
        pytest.skip("this host has one")
    for name in ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # so that they are put back afterwards
    with pytest.raises(devices.DeviceError, match="device 'gpu' is (a GPU, but this TensorFlow|GPU 0, but TensorFlow)"):
        devices.open_device("gpu", params_with().device_options["gpu"])


def test_a_card_is_counted_among_those_that_a_scheduler_left(monkeypatch):
    monkeypatch.setattr(gpu, "_LEFT_VISIBLE", None)
    assert gpu._card("gpu", 3) == "3"
    monkeypatch.setattr(gpu, "_LEFT_VISIBLE", "GPU-aaaa, 5")
    assert (gpu._card("gpu", 0), gpu._card("gpu", 1)) == ("GPU-aaaa", "5")
    with pytest.raises(devices.DeviceError, match="visible_device is 2, but CUDA_VISIBLE_DEVICES leaves 2 card"):
        gpu._card("gpu", 2)


@pytest.mark.parametrize("left", ["", "-1", "NoDevFiles", " ", ",0"])
def test_where_a_scheduler_left_no_card_none_is_taken(monkeypatch, left):
    monkeypatch.setattr(gpu, "_LEFT_VISIBLE", left)
    with pytest.raises(devices.DeviceError, match=f"CUDA_VISIBLE_DEVICES leaves no card: it is '{left}'"):
        gpu._card("gpu", 0)


def test_cuda_looks_no_further_than_what_is_no_card(monkeypatch):
    monkeypatch.setattr(gpu, "_LEFT_VISIBLE", "3,-1,4")
    assert gpu._card("gpu", 0) == "3"
    with pytest.raises(devices.DeviceError, match="visible_device is 1, but .* leaves 1 card.s., 3, counted from 0"):
        gpu._card("gpu", 1)


@pytest.mark.parametrize(
    "capability, cuda, refused",
    [
        ("8.0", "10", True),
        ("9.0", "10.0", True),
        ("8.6", "10.1", True),
        ("7.5", "10", False),
        ("7.0", "10", False),
        # NVIDIA's own builds of TensorFlow 1.15, and TensorFlow 2.
        ("9.0", "11", False),
        ("8.0", "12.5.1", False),
        ("8.0", None, False),
        ("", "10", False),
        ("10.0", "10", True),
    ],
)
def test_a_card_that_is_too_new_for_cuda_10_is_refused(params_with, monkeypatch, capability, cuda, refused):
    told = "device: 0, name: A card, pci bus id: 0000:65:00.0" + (
        ", compute capability: " + capability if capability else ""
    )
    found = type("Found", (), {"device_type": "GPU", "physical_device_desc": told})
    for name in ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(gpu, "_LEFT_VISIBLE", None)
    monkeypatch.setattr(gpu.tf.test, "is_built_with_cuda", lambda: True)
    monkeypatch.setattr(gpu.device_lib, "list_local_devices", lambda config: [found])
    monkeypatch.setattr(gpu, "cuda_version", lambda: cuda)
    options = params_with().device_options["gpu"]
    if not refused:
        assert devices.open_gpu("gpu", options).record["name"] == "A card"
        return
    with pytest.raises(devices.DeviceError) as error:
        devices.open_gpu("gpu", options)
    assert str(error.value).startswith(
        f"device 'gpu' is A card with compute capability {capability}, but TensorFlow {gpu.tf.version.VERSION} was "
        f"built with CUDA {cuda}, which supports at most 7.5. TensorFlow 1.15 from PyPI supports"
    )


def test_the_build_says_with_which_cuda_it_was_made(monkeypatch):
    class Older:
        cuda_version_number = "10"

    class Newer:
        build_info = {"cuda_version": "12.5.1"}

    for told, wanted in ((Older, "10"), (Newer, "12.5.1"), (object, None)):
        monkeypatch.setattr(gpu, "build_info", told)
        assert gpu.cuda_version() == wanted


def test_a_gpus_memory_is_taken_as_it_is_needed_up_to_a_share(params_with):
    options = params_with({"device_options.gpu.gpu_memory_fraction": 0.25}).device_options["gpu"]
    memory = gpu.session_config(options).gpu_options
    assert memory.allow_growth and memory.per_process_gpu_memory_fraction == 0.25


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """tool(name, text, status=0): a program of that name on the PATH that prints the text."""
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])

    def make(name, text, status=0):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\ncat <<'TEXT'\n{text}\nTEXT\nexit {status}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return make


def test_what_nvidia_smi_shows(tool):
    tool("nvidia-smi", "0, Tesla V100-SXM2-16GB, 410.104\n1, Tesla V100-SXM2-16GB, 410.104")
    assert smi.nvidia_gpus() == [(0, "Tesla V100-SXM2-16GB", "410.104"), (1, "Tesla V100-SXM2-16GB", "410.104")]
    tool("nvidia-smi", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", status=9)
    assert smi.nvidia_gpus() == [] and smi.nvidia_driver("0") is None


#: `npu-smi info` of an older release; the newer form is in the stand-in.
OLDER = """
+------------------------------------------------------------------------------+
| npu-smi v1.7.3                         Version: 1.75.22.0.220                 |
+-------------------+-----------------+----------------------------------------+
| NPU     Name      | Health          | Power(W)         Temp(C)               |
| Chip    Device    | Bus-Id          | AICore(%)        Memory-Usage(MB)      |
+===================+=================+========================================+
| 0       910A      | OK              | 69.6             46                    |
| 0       0         | 0000:C1:00.0    | 0                583  / 15171          |
+===================+=================+========================================+
| 1       910A      | Warning         | 66.1             45                    |
| 0       1         | 0000:81:00.0    | 0                628  / 15177          |
+===================+=================+========================================+"""


def test_what_npu_smi_shows(npu_host, tool):
    assert smi.ascend_npus() == [(0, "910A", "23.0.0"), (4, "910A", "23.0.0")]
    tool("npu-smi", OLDER)
    assert smi.ascend_npus() == [(0, "910A", "1.7.3"), (1, "910A", "1.7.3")]
    tool("npu-smi", "dcmi module initialize failed. ret is -8005", status=1)
    assert smi.ascend_npus() == []


def test_the_build_is_told():
    told = devices.describe_tensorflow()
    assert told["version"] == tf.version.VERSION
    assert told["build"] in (("tf2",) if told["version"].startswith("2.") else ("intel", "stock"))
    host = devices.describe_host()
    assert host["cpu"] and host["cores"] == len(os.sched_getaffinity(0)) and host["memory_bytes"] > 2**28
    assert 2**24 < devices.peak_memory() < host["memory_bytes"]
