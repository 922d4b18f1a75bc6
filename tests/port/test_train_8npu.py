"""train_8npu.sh: what it would start, by a chief or by a rank table."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.project import ROOT


@pytest.fixture
def dry_run(tmp_path):
    """dry_run(workers, devices, variables) -> the script's dry run in a copy of the project, with so many workers."""
    for name in ("stages", "covpool"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "train_8npu.sh", tmp_path)
    # A dry run only looks whether it is there.
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "tensorflow.py").write_text("")

    def run(workers=8, devices="[npu]", **changes):
        text = re.sub(r"(?m)^devices: .*", "devices: " + devices, (ROOT / "params.yaml").read_text())
        before, npu, after = text.partition("    kind: npu\n")
        after = after.replace("workers: 1", f"workers: {workers}", 1)
        (tmp_path / "params.yaml").write_text(before + npu + after)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("CM_", "RANK_"))}
        changes = {key: str(value) for key, value in changes.items()}
        return subprocess.run(
            ["sh", str(tmp_path / "train_8npu.sh"), "--dry-run"],
            capture_output=True,
            text=True,
            cwd="/",
            env={**kept, "COVPOOL_TF_PYTHON": sys.executable, "PYTHONPATH": str(tmp_path / "modules"), **changes},
        )

    return run


def test_eight_workers_by_a_chief(dry_run):
    done = dry_run(CM_CHIEF_IP="10.0.0.1")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines() == [
        f"worker {rank}: ASCEND_DEVICE_ID={rank} COVPOOL_RANK={rank} JOB_ID=covpool "
        f"{sys.executable} stages/train.py --device npu"
        for rank in range(8)
    ]


def test_what_does_not_fit_is_told_and_nothing_would_be_started(dry_run):
    done = dry_run(workers=4, CM_CHIEF_IP="10.0.0.1")
    assert done.returncode == 1 and done.stdout == ""
    assert "CM_WORKER_SIZE is 8, but device_options has workers: 4" in done.stderr
    done = dry_run(RANK_TABLE_FILE="/nowhere/table.json")
    assert done.returncode == 1 and "can't read RANK_TABLE_FILE /nowhere/table.json" in done.stderr


def rank_table(path, ranks):
    """A rank table of one server with so many chips."""
    chips = [{"device_id": str(each), "device_ip": f"10.1.0.{each}", "rank_id": str(each)} for each in range(ranks)]
    path.write_text(
        json.dumps(
            {
                "version": "1.0",
                "server_count": "1",
                "status": "completed",
                "server_list": [{"server_id": "10.0.0.1", "device": chips}],
            }
        )
    )
    return path


def test_one_worker_is_refused_and_not_taken_for_eight(dry_run, tmp_path):
    told = "train_8npu.sh: device_options.npu.workers is 1, which is one NPU: set it to {} in params.yaml.\n"
    for wanted, changes in (
        (8, {"CM_CHIEF_IP": "10.0.0.1"}),
        (4, {"CM_CHIEF_IP": "10.0.0.1", "CM_WORKER_SIZE": 4}),
        (6, {"RANK_TABLE_FILE": rank_table(tmp_path / "six.json", 6)}),
        (8, {"RANK_TABLE_FILE": "/nowhere/table.json"}),
    ):
        done = dry_run(workers=1, **changes)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", told.format(wanted))


def test_parameters_as_they_come_are_told_what_to_set(dry_run):
    done = dry_run(workers=1, devices="[cpu]", CM_CHIEF_IP="10.0.0.1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "train_8npu.sh: devices is [cpu]: set `devices: [npu]`; device_options.npu.workers is 1, which is one NPU: "
        "set it to 8 in params.yaml.\n"
    )
    assert dry_run(devices="[cpu, npu]", CM_CHIEF_IP="10.0.0.1").returncode == 0
