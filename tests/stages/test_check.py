"""The first stage: wrong parameters are told by key, by hand also a missing source; DVC gets a constant."""

import shutil
import subprocess

import pytest
import yaml

from tests.project import ROOT


@pytest.fixture
def check(tmp_path):
    """Runs the check in a folder with params.yaml, changed as told."""

    def run(*flags, **changes):
        text = (ROOT / "params.yaml").read_text()
        content = yaml.safe_load(text)
        for key, value in changes.items():
            section, _, name = key.rpartition("__")
            (content[section] if section else content)[name] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content) if changes else text)
        (tmp_path / "covpool" / "rendered").mkdir(parents=True, exist_ok=True)
        command = [str(ROOT / "stages" / "py"), str(ROOT / "stages" / "check.py"), *flags]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run


def test_the_stage_writes_a_constant_and_by_hand_nothing_is_written(check, tmp_path):
    done = check()
    assert (done.returncode, done.stdout) == (0, "check: params.yaml is valid\n")
    assert not (tmp_path / "data").exists()
    assert check("--stage").returncode == 0
    first = (tmp_path / "data" / "params-checked").read_bytes()
    assert check("--stage", train__epochs=3).returncode == 0
    assert (tmp_path / "data" / "params-checked").read_bytes() == first


def test_wrong_keys_write_nothing(check, tmp_path):
    done = check("--stage", train__epoch=3)
    assert done.returncode == 1 and "train.epoch: no such key" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dataset__source": ""}, "dataset.source: expected text that is not empty, got ''"),
        ({"dataset__source": 5}, "dataset.source: expected text that is not empty, got 5"),
        ({"dataset__source": None}, "dataset.source: expected text that is not empty, got None"),
        ({"devices": "cpu"}, "devices: expected a list of 1 or more different names"),
        ({"dataset__kind": "folder", "dataset__source": "."}, "dataset.source: '.' holds the project itself"),
        ({"dataset__kind": "folder", "dataset__source": "/"}, "dataset.source: '/' holds the project itself"),
        ({"dataset__kind": "folder", "dataset__source": "data"}, "dataset.source: 'data' overlaps data/raw"),
        ({"dataset__kind": "folder", "dataset__source": "models/x"}, "dataset.source: 'models/x' overlaps models"),
        ({"dataset__kind": "folder", "dataset__source": "/nowhere"}, "dataset.source: /nowhere"),
        ({"dataset__kind": "sfew_100", "dataset__source": "/nowhere"}, "https://cs.anu.edu.au/few/"),
        ({"dataset__kind": "sfew_100", "dataset__source": "/nowhere"}, "Train|val/<class>/*"),
    ],
)
def test_what_dvc_would_tell_without_the_key_is_told_by_hand(check, change, message):
    done = check(**change)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_the_stage_does_not_look_for_the_pictures(check):
    """A clone that pulls aligned faces has none, and may still change parameters of the training."""
    change = {"dataset__kind": "sfew_100", "dataset__source": "/nowhere"}
    assert check(**change).returncode == 1 and check("--stage", **change).returncode == 0


def test_a_missing_device_is_reported_by_hand_before_anything_runs(check):
    done = check(devices=["gpu"])
    assert done.returncode == 1 and "check: devices: gpu can't be trained on this machine: " in done.stderr
    assert check("--stage", devices=["gpu"]).returncode == 0


def test_the_copy_of_a_queued_experiment_finds_a_relative_source(check, tmp_path, monkeypatch):
    """DVC copies what Git has; a folder of pictures that Git does not have stays in the project."""
    project = tmp_path / "project"
    (project / "mine" / "faces").mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(project))
    assert check("--stage", dataset__kind="folder", dataset__source="mine/faces").returncode == 0
    assert (tmp_path / "mine" / "faces").samefile(project / "mine" / "faces")
    # In the project itself, and for an absolute path, nothing is made.
    assert check("--stage", dataset__kind="folder", dataset__source=str(project / "other")).returncode == 0
    assert check("--stage", dataset__kind="folder", dataset__source="missing").returncode == 0
    assert not (tmp_path / "missing").is_symlink()


def test_a_source_beside_the_outputs_is_fine(check, tmp_path):
    (tmp_path / "data" / "mine").mkdir(parents=True)
    assert check(dataset__kind="folder", dataset__source="data/mine").returncode == 0


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_repro_checks_first():
    shown = subprocess.run(["make", "-n", "repro"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.index("install.py") < shown.index("stages/check.py") < shown.index("dvc repro")
