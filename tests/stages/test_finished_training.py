"""A finished training survives until DVC has stored it: kills and a full cache train no step again.

Real runs of the pipeline take minutes, so the tests run in `make test-slow`.
"""

import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.pipeline_project import dvc, make_project
from tests.stages.test_kills import PATIENCE, start, wait_for_group

TRAIN = ("repro", "--single-item", "train@cpu")
DONE = "All 2 steps are done already"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """(project, its dvc.lock before training, {file of models/cpu: bytes of an undisturbed training})."""
    changes = {"devices": ["cpu"], "train.epochs": 2, "train.epoch_size": 1}
    folder = make_project(tmp_path_factory.mktemp("project"), changes)
    dvc(folder, "repro", "normalise")
    lock = (folder / "dvc.lock").read_text()
    dvc(folder, *TRAIN)
    return folder, lock, models(folder)


@pytest.fixture
def project(prepared):
    """The project as before any training."""
    folder, lock, _ = prepared
    for name in (".dvc/cache/runs", ".covpool", "models", "runs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "dvc.lock").write_text(lock)
    return folder


def models(folder):
    return {path.name: path.read_bytes() for path in (folder / "models/cpu").iterdir()}


def wait_for(folder, pattern, run):
    """Wait until the training has written a file of its working state."""
    deadline = time.monotonic() + PATIENCE
    while not list((folder / ".covpool/training").glob(pattern)):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("delay", [0, 0.3, 0.8])
def test_a_kill_after_the_last_epoch_loses_nothing(prepared, project, delay):
    run = start(project, "train@cpu")
    wait_for(project, "cpu-*/finished", run)
    time.sleep(delay)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not wait_for_group(run.pid)
    repair_locks(project, prepared[1])
    assert DONE in dvc(project, *TRAIN)
    assert models(project) == prepared[2]


def repair_locks(folder, lock):
    """DVC writes dvc.lock and rwlock in place: a kill can cut them short, or find the stage stored already."""
    (folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    (folder / "dvc.lock").write_text(lock)
    shutil.rmtree(folder / ".dvc/cache/runs", ignore_errors=True)


def test_sigterm_in_the_last_step_loses_nothing(prepared, project):
    run = start(project, "train@cpu")
    wait_for(project, "cpu-*/step-00000001/progress.json", run)
    os.killpg(run.pid, signal.SIGTERM)
    run.wait(timeout=PATIENCE)
    assert not wait_for_group(run.pid)
    repair_locks(project, prepared[1])
    said = dvc(project, *TRAIN)
    assert DONE in said or "Resuming at step 1 of 2" in said, said
    assert models(project) == prepared[2]


def test_a_kill_of_dvc_alone_leaves_a_training_whose_result_is_used(prepared, project):
    run = start(project, "train@cpu")
    wait_for(project, "cpu-*/lock", run)
    run.kill()
    run.wait()
    assert not wait_for_group(run.pid), "the training did not end"
    repair_locks(project, prepared[1])
    assert DONE in dvc(project, *TRAIN)
    assert models(project) == prepared[2]


def test_a_full_disk_for_the_cache_loses_nothing(prepared, project, tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        dvc(project, "config", "--local", "cache.dir", str(tmp_path))
        failed = dvc(project, *TRAIN, code=255)
        assert "No space left" in failed, failed
    finally:
        dvc(project, "config", "--local", "--unset", "cache.dir")
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert DONE in dvc(project, *TRAIN)
    assert models(project) == prepared[2]
