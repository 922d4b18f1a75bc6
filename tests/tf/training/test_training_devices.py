"""Devices: the processor's threads, and a GPU that is refused where there is none."""
import os

import pytest
import tensorflow.compat.v1 as tf

from covpool import devices
from covpool.devices import device


def test_the_processor_has_the_threads_that_were_asked_for():
    cores = len(os.sched_getaffinity(0))
    for asked, given in ((0, cores), (1, 1), (3, 3)):
        opened = devices.open_cpu("cpu", asked)
        assert opened.config.intra_op_parallelism_threads == given == opened.record["threads"]
        assert opened.config.inter_op_parallelism_threads == 1 and opened.kind == "cpu"
    with opened.session(tf.get_default_graph()) as session:
        assert session.run(tf.constant(1)) == 1
        assert {each.device_type for each in session.list_devices()} <= {"CPU", "XLA_CPU"}


def test_a_gpu_that_is_not_there_is_refused(params_with, monkeypatch):
    if os.path.exists("/proc/driver/nvidia/version"):
        pytest.skip("this host has one")
    for name in ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # so that they are put back afterwards
    with pytest.raises(devices.DeviceError, match="device 'gpu' is (a GPU, and this TensorFlow|GPU 0, and TensorFlow)"):
        devices.open_device("gpu", params_with().device_options["gpu"])


def test_a_card_is_counted_among_those_that_a_scheduler_left(monkeypatch):
    monkeypatch.setattr(device, "_LEFT_VISIBLE", None)
    assert device._card("gpu", 3) == "3"
    monkeypatch.setattr(device, "_LEFT_VISIBLE", "GPU-aaaa, 5")
    assert (device._card("gpu", 0), device._card("gpu", 1)) == ("GPU-aaaa", "5")
    with pytest.raises(devices.DeviceError, match="visible_device is 2, and CUDA_VISIBLE_DEVICES leaves 2 card"):
        device._card("gpu", 2)


def test_the_build_is_told():
    told = devices.describe_tensorflow()
    assert told["version"] == tf.version.VERSION
    assert told["build"] in (("tf2",) if told["version"].startswith("2.") else ("intel", "stock"))
    host = devices.describe_host()
    assert host["cpu"] and host["cores"] == len(os.sched_getaffinity(0)) and host["memory_bytes"] > 2**28
    assert 2**24 < devices.peak_memory() < host["memory_bytes"]
