"""Energy and memory of a run: what an opened device measures, and what reaches the run's record."""

import os
import sys
import time

import numpy as np
import pytest

from covpool import devices
from covpool.devices import gpu, meter, smi
from covpool.pipeline import artifacts
from covpool.training import run_key
from covpool.training.graph import TrainingGraph
from covpool.training.trainer import Interrupted
from tests.tf.devices.energy_sources import RANGE, FakeRapl, trapezoid
from tests.tf.devices.npu_standin import STANDIN
from tests.tf.training.training_project import Project


def test_a_tool_that_hangs_does_not_hold_the_end_of_a_training(nvidia_smi, monkeypatch):
    monkeypatch.setattr(smi, "PATIENCE_BESIDE_A_RUN", 1.0)
    nvidia_smi("hang")
    with meter.Meter(meter.PowerGauge("the card", lambda: smi.nvidia_usage("3"))) as found:
        pass
    assert found.drawn().measured == 0 and meter.energy(found.drawn(), found.source)["joules"] is None


@pytest.fixture
def opened_gpu(params_with, monkeypatch):
    """A GPU as it is opened where TensorFlow finds one: what it is asked by is this module's."""

    class Found:
        device_type, physical_device_desc = "GPU", "device: 0, name: Tesla V100-SXM2-16GB, pci bus id: 0000:65:00.0"

    for name in ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(gpu, "_LEFT_VISIBLE", "1,3")
    monkeypatch.setattr(gpu.tf.test, "is_built_with_cuda", lambda: True)
    monkeypatch.setattr(gpu.device_lib, "list_local_devices", lambda config: [Found()])
    return lambda: gpu.open_gpu("gpu", params_with({"device_options.gpu.visible_device": 1}).device_options["gpu"])


def test_a_gpu_is_asked_for_the_very_card_that_cuda_was_given(opened_gpu, nvidia_smi, program):
    nvidia_smi("100.00, 2048")
    opened = opened_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3" and opened.gauge.source == "the card by nvidia-smi"
    assert opened.gauge.read() == (0, 0, 2 * 2**30)
    assert (program("unused", "").joinpath("asked")).read_text() == "--id=3\n"


@pytest.mark.parametrize("given, allowed", [(None, False), ("0", False), ("1", True)])
def test_whether_tf32_is_allowed_is_in_the_record_and_in_what_a_result_depends_on(
    opened_gpu, nvidia_smi, monkeypatch, given, allowed
):
    nvidia_smi("100.00, 2048")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    if given is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", given)
    device = opened_gpu().record
    assert device["tf32"] is allowed and os.environ["NVIDIA_TF32_OVERRIDE"] == (given or "0")
    facts = {name: 0 for name in ("format", "name", "kind", "tensorflow", "parameters", "data")}
    facts.update(code={"hash": ""}, device=device)
    other = dict(facts, device=dict(device, tf32=not allowed))
    assert run_key.key(facts) != run_key.key(other)
    assert list(run_key.fingerprint(facts)) != list(run_key.fingerprint(other))


def test_workers_that_share_a_processor_count_its_energy_once():
    class Second(type(devices.ALONE)):
        count = local_count = 2
        rank = local_rank = 1

    assert devices.open_cpu(workers=Second()).gauge is None
    assert devices.open_cpu().gauge.source == "the processor packages by RAPL"
    with meter.Meter(None) as found:
        pass
    assert found.drawn().seconds > 0 and found.drawn()[1:] == (0, 0, 0, 0)


SHORT = {"train.epochs": 2, "train.epoch_size": 3}


@pytest.fixture
def rapl(tmp_path, monkeypatch, narrow):
    """The counters of this host, a step of training adding 2 J to one and 1 J to the other; they wrap on the way."""
    made = FakeRapl(tmp_path / "powercap", RANGE - 5_000_000)
    monkeypatch.setattr(meter, "POWERCAP", made.folder)
    original = TrainingGraph.run_step

    def step(*arguments):
        found = original(*arguments)
        made.draw("intel-rapl:0", 2_000_000)
        made.draw("intel-rapl:1", 1_000_000)
        return found

    monkeypatch.setattr(TrainingGraph, "run_step", step)
    return made


def test_a_runs_record_has_the_energy_of_its_steps(tmp_path, rapl):
    project = Project(tmp_path / "project", SHORT)
    record = project.trainer().run()
    assert artifacts.seal_is_intact(project.record())
    energy = record["energy"]
    assert energy["joules"] == pytest.approx(6 * 3.0) and energy["source"] == "the processor packages by RAPL"
    assert energy["covered"] > 0.9 and energy["seconds"] >= sum(row["seconds"] for row in _times(project))
    assert record["memory"]["device_peak_bytes"] is None


def test_a_run_that_goes_on_has_the_energy_of_the_whole_training(tmp_path, rapl, monkeypatch):
    project = Project(tmp_path / "project", SHORT)
    trainer = project.trainer()
    original = trainer._check_signal
    # As a SIGTERM in the second step would leave it.
    monkeypatch.setattr(
        trainer,
        "_check_signal",
        lambda session: (setattr(trainer, "signal", 15 if trainer.step == 2 else None), original(session)),
    )
    with pytest.raises(Interrupted):
        trainer.run()
    rapl.draw("intel-rapl:0", 500_000_000)  # between the two, by something else
    record = project.trainer().run()
    assert record["progress"]["resumed"] and record["energy"]["joules"] == pytest.approx(6 * 3.0)


def test_a_run_whose_host_tells_nothing_ends_as_ever(tmp_path, monkeypatch, narrow):
    monkeypatch.setattr(meter, "POWERCAP", tmp_path / "nothing")
    record = Project(tmp_path / "project", SHORT).trainer().run()
    assert record["energy"]["joules"] is record["energy"]["source"] is None and record["energy"]["covered"] == 0


#: npu-smi whose power grows with each call: it is printed, and left in a file.
GROWING = """#!{python}
import pathlib, sys
assert sys.argv[1:] == ["info"]
log = pathlib.Path(__file__).parent / "told"
lines = log.read_text().splitlines() if log.exists() else []
watts = 60 + 7 * (len(lines) % 5)
with open(str(log), "a") as stream:
    print(watts, file=stream)
table = pathlib.Path({table!r}).read_text().split("<<'TABLE'")[1].replace("TABLE", "")
print(table.replace("71.6", "%.1f" % watts).replace("1    / 32768", "%d / 32768" % (1000 + len(lines)), 1))
"""


def test_an_npus_energy_is_the_integral_of_what_npu_smi_told(tmp_path, npu_bridge, program, monkeypatch, narrow):
    """Against the tool's own log of what it answered, and a clock's of when it was asked."""
    monkeypatch.setattr(meter, "INTERVAL", 0.2)
    folder = program("npu-smi", GROWING.format(python=sys.executable, table=str(STANDIN / "bin" / "npu-smi")))
    changes = {"devices": ["npu"], "train.epochs": 3, "train.epoch_size": 4}
    project = Project(tmp_path / "project", changes, device="npu")
    trainer = project.trainer()
    (folder / "told").unlink()  # what was asked before the training
    moments = []
    trainer.device.gauge._clock = lambda: moments.append(time.perf_counter()) or moments[-1]
    record = trainer.run()
    watts = np.loadtxt(str(folder / "told"), ndmin=1)
    energy = record["energy"]
    assert len(moments) == len(watts) >= 3 and energy["source"] == "the card by npu-smi"
    assert energy["joules"] == pytest.approx(trapezoid(watts, moments), abs=0.001)
    assert energy["covered"] > 0.9 and energy["seconds"] == pytest.approx(moments[-1] - moments[0], rel=0.1)
    assert record["memory"]["device_peak_bytes"] == (1000 + len(moments) - 1) * 2**20


def _times(project):
    rows = artifacts.read_csv(project.folder / "runs" / project.device / "times.csv", artifacts.TIMES_COLUMNS)
    return [{"seconds": float(row["seconds"])} for row in rows]
