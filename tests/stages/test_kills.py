"""Stages that are killed at random moments: the next run ends with the bytes of an undisturbed one.

test_finished_training.py has the kills after the last epoch of `train`. A sweep takes minutes, so it runs in
`make test-slow`.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.pipeline_project import dvc, make_project
from tests.project import ROOT

STAGES = ("check", "fetch", "validate", "normalise", "report", "train@cpu", "evaluate@cpu")
#: Kills of each stage.
KILLS = 8
#: Who gets the signal: all processes, as from a terminal or at a power cut, or DVC alone, which leaves the stage alive.
WAYS = (
    ("all", signal.SIGKILL),
    ("all", signal.SIGTERM),
    ("all", signal.SIGINT),
    ("dvc", signal.SIGKILL),
    ("dvc", signal.SIGTERM),
)
#: Files that hold measured seconds, so no two runs write the same bytes.
TIMES = ("run.json", "times.csv")
#: Seconds after which a stage that DVC has left alive must have ended.
PATIENCE = 60


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which the pipeline has run, on pictures in which a detector looks for faces."""
    folder = make_project(tmp_path_factory.mktemp("project"), {"normalise.detector": "mtcnn"})
    dvc(folder, "repro")
    return folder


def outputs(folder, stage):
    """{path: bytes} of all that a stage has written."""
    name, _, run = stage.partition("@")
    entries = yaml.safe_load((ROOT / "dvc.yaml").read_text().replace("${item}", run))["stages"][name]
    entries = entries.get("do", entries)
    named = [each for key in ("outs", "metrics", "plots") for each in entries.get(key, [])]
    roots = [folder / (next(iter(each)) if isinstance(each, dict) else each) for each in named]
    files = [path for root in roots for path in ([root] if root.is_file() else sorted(root.rglob("*")))]
    assert all(root.exists() for root in roots)
    compared = [path for path in files if path.is_file() and path.name not in TIMES]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in compared}


def differing(one, other):
    return [path for path in {**one, **other} if one.get(path) != other.get(path)]


def start(folder, stage):
    if stage.startswith("train@"):
        # The state of a finished training would end the run before its first step.
        shutil.rmtree(folder / ".covpool/training", ignore_errors=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "COVPOOL_"))}
    return subprocess.Popen(
        ["stages/py", "-m", "dvc", "repro", "--single-item", "--force", stage],
        cwd=folder,
        env={**environment, "DVC_NO_ANALYTICS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for_group(group):
    """Wait until no process of a group runs; kill what outlives PATIENCE and return it."""
    deadline = time.monotonic() + PATIENCE
    while members(group):
        if time.monotonic() > deadline:
            alive = members(group)
            os.killpg(group, signal.SIGKILL)
            return alive
        time.sleep(0.05)
    return []


def members(group):
    """Command lines of a group's processes that run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def kill_once(folder, stage, way, delay):
    """Start a stage, kill it after `delay` seconds; return whether it was still running."""
    whom, number = way
    run = start(folder, stage)
    time.sleep(delay)
    over = run.poll() is not None
    if whom == "all" and members(run.pid):
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    run.wait(timeout=PATIENCE)
    assert not wait_for_group(run.pid), "processes outlive the run"
    return not over


def lock_of(folder):
    """{stage: what dvc.lock has of it}; {} for a file that a kill has cut short."""
    try:
        return yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    except (FileNotFoundError, TypeError, KeyError, yaml.YAMLError):
        return {}


def repair(folder, stage, lock):
    """Remove what a kill has cut short in DVC's own files, which it writes in place; return what that was.

    `lock` is what dvc.lock had before. Without dvc.lock, DVC's run cache has all results, and nothing is trained again.
    """
    damaged = []
    running = folder / ".dvc/tmp/rwlock"
    try:
        json.loads(running.read_text())
    except FileNotFoundError:
        pass
    except ValueError:
        running.unlink()
        damaged.append("rwlock")
    found = lock_of(folder)
    if any(found.get(other) != lock[other] for other in lock if other != stage):
        (folder / "dvc.lock").unlink(missing_ok=True)
        damaged.append("dvc.lock")
        said = dvc(folder, "repro")
        assert "train@cpu" in said and "Running stage 'train" not in said, said
    return damaged


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_loses_nothing(project, stage):
    expected = outputs(project, stage)
    generator = random.Random(STAGES.index(stage))
    started = time.monotonic()
    dvc(project, "repro", "--single-item", "--force", stage)
    seconds = time.monotonic() - started
    again = outputs(project, stage)
    assert again == expected, differing(expected, again)
    counts = Counter()
    for number in range(KILLS):
        way = WAYS[number % len(WAYS)]
        lock = lock_of(project)
        delay = generator.uniform(0, seconds)
        while not kill_once(project, stage, way, delay):
            # The machine is less busy than when the run was timed.
            counts["too late"] += 1
            delay /= 2
        counts[f"{way[1].name} to {way[0]}"] += 1
        counts.update(f"damaged {name}" for name in repair(project, stage, lock))
        dvc(project, "repro", "--single-item", stage)
        found = outputs(project, stage)
        assert found == expected, (way, differing(expected, found))
    assert "up to date" in dvc(project, "status", stage)
    print(f"\n{stage}: {KILLS} kills of a run of {seconds:.1f} s: {dict(counts)}")
