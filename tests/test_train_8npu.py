"""train_8npu.sh: what it would start, by a chief or by a rank table."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def dry_run(tmp_path):
    """dry_run(workers, variables) -> the script's dry run in a copy of the project with so many workers."""
    for name in ("stages", "covpool"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "train_8npu.sh", tmp_path)
    # A dry run only looks whether it is there.
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "tensorflow.py").write_text("")

    def run(workers=8, **changes):
        text = (ROOT / "params.yaml").read_text()
        before, npu, after = text.partition("    kind: npu\n")
        after = after.replace("workers: 1", "workers: {}".format(workers), 1)
        (tmp_path / "params.yaml").write_text(before + npu + after)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("CM_", "RANK_"))}
        return subprocess.run(
            ["sh", str(tmp_path / "train_8npu.sh"), "--dry-run"], capture_output=True, text=True, cwd="/",
            env={**kept, "COVPOOL_TF_PYTHON": sys.executable, "PYTHONPATH": str(tmp_path / "modules"), **changes},
        )  # fmt: skip

    return run


def test_eight_workers_by_a_chief(dry_run):
    done = dry_run(CM_CHIEF_IP="10.0.0.1")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines() == [
        "worker {0}: ASCEND_DEVICE_ID={0} COVPOOL_RANK={0} JOB_ID=covpool {1} stages/train.py --device npu".format(
            rank, sys.executable) for rank in range(8)
    ]  # fmt: skip


def test_what_does_not_fit_is_told_and_nothing_would_be_started(dry_run):
    done = dry_run(workers=4, CM_CHIEF_IP="10.0.0.1")
    assert done.returncode == 1 and done.stdout == ""
    assert "CM_WORKER_SIZE is 8, and device_options has workers: 4" in done.stderr
    done = dry_run(RANK_TABLE_FILE="/nowhere/table.json")
    assert done.returncode == 1 and "RANK_TABLE_FILE /nowhere/table.json can't be read" in done.stderr
