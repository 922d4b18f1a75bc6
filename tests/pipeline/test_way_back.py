"""`make back` after experiments: results that were made before come back; else a clean workspace and one sentence."""

import os
import subprocess
import sys

import pytest

from tests.project import ROOT

DVC_YAML = """
stages:
  check:
    cmd: mkdir -p data && echo valid > data/checked
    deps: [code]
    params: [params.yaml: ]
    outs: [data/checked]
  train:
    cmd: echo trained >> trainings && cp params.yaml model
    deps: [data/checked]
    params: [epochs]
    outs: [model]
  report:
    cmd: mkdir -p reports && cp model reports/page && cp model reports/metrics.json
    deps: [model]
    params: [tolerance]
    outs: [reports/page]
    metrics: [reports/metrics.json: {cache: false}]
"""
MADE = "and the results are those of the last commit again"
NOT_MADE = "run `make repro` to make them"


def call(folder, *command):
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(ROOT)}
    for role in ("AUTHOR", "COMMITTER"):
        environment.update({f"GIT_{role}_NAME": "test", f"GIT_{role}_EMAIL": "test@example.org"})
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dvc(folder, *arguments):
    return call(folder, sys.executable, "-m", "dvc", *arguments)


def back(folder):
    output = call(folder, sys.executable, "-m", "covpool.pipeline.way_back")
    assert len(output.splitlines()) == 1
    return output


def changes(folder):
    return call(folder, "git", "status", "--porcelain").splitlines()


@pytest.fixture
def project(tmp_path):
    """A pipeline of three stages of the real one's names; `trainings` has a line a training. Nothing has run."""
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "params.yaml").write_text("epochs: 2\ntolerance: 1\n")
    (tmp_path / "code").write_text("code\n")
    (tmp_path / ".gitignore").write_text("/data/\n/model\n/trainings\n/reports/page\n")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "metrics.json").write_text('{"epochs": 0}\n')
    call(tmp_path, "git", "init", "-q")
    call(tmp_path, sys.executable, "-m", "dvc", "init", "-q")
    call(tmp_path, "git", "add", "-A")
    call(tmp_path, "git", "commit", "-qm", "start")
    return tmp_path


def test_results_that_were_made_come_back_without_training(project):
    dvc(project, "repro")
    mine = (project / "reports/metrics.json").read_bytes()
    dvc(project, "exp", "run", "-S", "epochs=3", "-S", "tolerance=2")
    assert "epochs: 3" in (project / "model").read_text()
    assert MADE in back(project)
    assert (project / "model").read_text() == (project / "params.yaml").read_text() == "epochs: 2\ntolerance: 1\n"
    assert (project / "reports/metrics.json").read_bytes() == mine
    assert len((project / "trainings").read_text().splitlines()) == 2
    assert "up to date" in dvc(project, "status")
    # The same if the lock file was committed, as DVC advises.
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "results")
    dvc(project, "exp", "run", "-S", "epochs=4")
    assert MADE in back(project)
    assert changes(project) == [] and "up to date" in dvc(project, "status")
    assert len((project / "trainings").read_text().splitlines()) == 3
    # And a second time, with nothing to do.
    assert MADE in back(project)


@pytest.mark.parametrize("lock_committed", [False, True])
def test_results_that_were_not_made_leave_a_clean_workspace_and_a_sentence(project, lock_committed, tmp_path_factory):
    if lock_committed:
        dvc(project, "repro")
        call(project, "git", "add", "-A")
        call(project, "git", "commit", "-qm", "results that a clone's cache does not have")
        clone = tmp_path_factory.mktemp("clone")
        call(clone, "git", "clone", "-q", str(project), ".")
        project = clone
    dvc(project, "exp", "run", "-S", "epochs=3")
    metrics = call(project, "git", "show", "HEAD:reports/metrics.json")
    assert NOT_MADE in back(project)
    assert changes(project) == []
    assert not (project / "model").exists() and not (project / "reports/page").exists()
    assert (project / "dvc.lock").exists() == lock_committed
    assert (project / "reports/metrics.json").read_text() == metrics
    assert len((project / "trainings").read_text().splitlines()) == 1


def test_without_git_it_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "covpool.pipeline.way_back"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1 and "back: Git could not restore params.yaml" in done.stderr
    assert "Traceback" not in done.stderr
