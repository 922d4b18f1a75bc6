"""What check by hand says about this machine: devices that are not here, a changed TensorFlow, the project's place."""

import dataclasses
import os

import pytest

from covpool import config
from covpool.pipeline import artifacts, machine


@pytest.fixture
def params(tmp_path, monkeypatch):
    """params_with(devices, changes of device_options.cpu) in an empty folder."""
    content = config.read_yaml("params.yaml")
    monkeypatch.chdir(tmp_path)
    for name in ("COVPOOL_TF_PYTHON", "TF_BUILD"):
        monkeypatch.delenv(name, raising=False)

    def params_with(*devices, **cpu):
        found = config.parse_params(dict(content, devices=list(devices)))
        options = dict(found.device_options, cpu=dataclasses.replace(found.device_options["cpu"], **cpu))
        return dataclasses.replace(found, device_options=options)

    return params_with


@pytest.fixture
def launcher(tmp_path, monkeypatch):
    """launcher(lines) puts a shell script in the place of stages/tf, which writes down how it was called."""
    place = tmp_path / "stages" / "tf"
    place.parent.mkdir()

    def make(*lines):
        place.write_text("\n".join(("#!/bin/sh", 'echo "$@" >> calls', *lines)) + "\n")
        place.chmod(0o755)

    monkeypatch.setattr(machine, "TF_LAUNCHER", place)
    return make


def test_the_processor_is_not_looked_for(params, launcher, tmp_path):
    launcher("exit 1")
    assert list(machine.missing_devices(params("cpu"))) == []
    assert not (tmp_path / "calls").exists()
    assert len(list(machine.missing_devices(params("cpu", python="/nowhere/python")))) == 1
    assert len(list(machine.missing_devices(params("cpu", workers=2)))) == 1


@pytest.mark.parametrize(
    "lines, sentence",
    [
        (
            ["""echo '{"refused": "no GPU is here."}'""", "exit 1"],
            "gpu can't be trained on this machine: no GPU is here.",
        ),
        (["echo 'stages/tf: no TensorFlow here' >&2", "exit 1"], "machine: stages/tf: no TensorFlow here"),
        (["kill -SEGV $$"], "machine: TensorFlow was ended by SIGSEGV."),
    ],
)
def test_a_missing_device_is_one_sentence(params, launcher, tmp_path, lines, sentence):
    launcher(*lines)
    (found,) = machine.missing_devices(params("cpu", "gpu"))
    assert found.startswith("devices: ") and sentence in found and "README.md" in found
    assert (tmp_path / "calls").read_text() == "-m covpool.diagnostics.probe --device gpu\n"


def test_a_device_that_is_here_or_was_trained_elsewhere_is_fine(params, launcher, tmp_path):
    launcher("""echo '{"here": "a card"}'""")
    assert list(machine.missing_devices(params("gpu"))) == []
    launcher("exit 1")
    (tmp_path / "runs" / "gpu").mkdir(parents=True)
    (tmp_path / "runs" / "gpu" / "run.json").write_text("{}")
    assert list(machine.missing_devices(params("gpu"))) == []


def test_another_default_build_than_that_of_a_run_is_reported(params, launcher, tmp_path, monkeypatch):
    launcher("exit 1")
    os.symlink(".venv-tf2", tmp_path / ".venv-tf")
    assert machine.default_build() == "tf2"
    assert list(machine.other_builds(params("cpu"))) == []
    artifacts.write_json(tmp_path / "runs" / "cpu" / "run.json", {"tensorflow": {"build": "intel"}})
    (found,) = machine.other_builds(params("cpu"))
    assert "cpu was trained with the TensorFlow build intel, and the default build is tf2 now" in found
    assert "Set device_options.cpu.build to tf2 to train again" in found
    assert list(machine.other_builds(params("cpu", build="intel"))) == []
    monkeypatch.setenv("TF_BUILD", "intel")
    assert list(machine.other_builds(params("cpu"))) == []
    monkeypatch.setenv("COVPOOL_TF_PYTHON", "/usr/bin/python")
    assert machine.default_build() is None and list(machine.other_builds(params("cpu"))) == []


def test_letters_beyond_ascii_in_the_path_are_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert machine.place_problem() == ""
    (tmp_path / "prüfung").mkdir()
    monkeypatch.chdir(tmp_path / "prüfung")
    assert "`dvc exp run --queue` and `--temp`" in machine.place_problem()
