"""Workers are started, hear of signals, and end as one program that says which of them failed; no TensorFlow here."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest

from covpool.distributed import launcher
from tests.project import ROOT


@pytest.fixture
def program(tmp_path):
    """program(code of a worker, which has `rank`) -> a started program of three of them."""

    def start(code, grace=60):
        (tmp_path / "program.py").write_text(
            textwrap.dedent(
                f"""
            import os, signal, sys, time
            from covpool.distributed import launcher
            launcher.GRACE = {grace}
            if launcher.LAUNCHER not in os.environ:
                try:
                    sys.exit(launcher.run_workers("run", {{rank: {{"RANK": str(rank)}} for rank in range(3)}}))
                except launcher.LaunchError as error:
                    sys.exit("run: {{}}".format(error))
            launcher.hand_on("run", type("Options", (), {{"workers": 3}}))
            rank = int(os.environ["RANK"])
        """
            )
            + textwrap.dedent(code)
        )
        return subprocess.Popen(
            [sys.executable, "program.py"],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
        )

    return start


def ended(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_each_worker_runs_once_and_only_the_first_is_seen(program, tmp_path):
    done = ended(program("print('I am', rank, flush=True); print('err', rank, file=sys.stderr)"))
    assert done == (0, "I am 0\n", "err 0\n")
    assert sorted(path.name for path in (tmp_path / ".covpool/workers").iterdir()) == ["run-1.log", "run-2.log"]
    assert (tmp_path / ".covpool/workers/run-2.log").read_text().split("\n") == ["I am 2", "err 2", ""]


@pytest.mark.parametrize(
    "code, wanted",
    [
        # The others give up because worker 2 is gone: it is the one to be named.
        ("sys.exit('run: no data' if rank == 2 else launcher.LOST)", (1, "run: worker 2 of 3 failed: run: no data\n")),
        ("sys.exit(7 if rank == 2 else launcher.LOST)", (1, "run: worker 2 of 3 failed: exit code 7\n")),
        (
            "os.kill(os.getpid(), 9) if rank == 1 else sys.exit(launcher.LOST)",
            (1, "run: worker 1 of 3 was ended by SIGKILL. Run the same command again to resume from the last state.\n"),
        ),
        # What all have in common is told once.
        ("sys.exit('run: not finite')", (1, "run: not finite\n")),
        ("sys.exit(launcher.LOST)", (launcher.LOST, "")),
    ],
)
def test_the_worker_that_failed_is_told_once(program, code, wanted):
    status, out, err = ended(program(code))
    assert (status, err) == wanted and out == ""


def test_workers_that_hang_after_another_has_failed_are_killed(program):
    status, out, err = ended(program("sys.exit('boom') if rank == 0 else time.sleep(600)", grace=0.5))
    assert (status, out, err) == (1, "", "boom\n")
    status, out, err = ended(program("sys.exit(launcher.LOST) if rank == 0 else time.sleep(600)", grace=0.5))
    assert err.startswith("run: worker 1 of 3 did not answer and was killed")


NOTING = """
    got = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: got.append(number))
    open("ready-{}".format(rank), "w").close()
    while not got:
        time.sleep(0.01)
    print(rank, "stops", flush=True)
    sys.exit(128 + got[0])
"""


def ready(folder, patience=60):
    end = time.monotonic() + patience
    while len(list(folder.glob("ready-*"))) < 3:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_worker_and_shows_in_the_exit_code(program, tmp_path, number):
    process = program(NOTING)
    ready(tmp_path)
    process.send_signal(number)
    assert ended(process) == (128 + number, "0 stops\n", "")
    assert (tmp_path / ".covpool/workers/run-2.log").read_text() == "2 stops\n"


def test_no_worker_outlives_a_launcher_that_is_killed(program, tmp_path):
    process = program(NOTING)
    ready(tmp_path)
    process.kill()
    assert ended(process) == (-signal.SIGKILL, "0 stops\n", "")


def test_one_worker_needs_no_launcher_and_several_need_horovod(monkeypatch):
    launcher.hand_on("cpu", SimpleNamespace(kind="cpu", workers=1))
    monkeypatch.setattr(launcher.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(launcher.LaunchError) as told:
        launcher.hand_on("cpu", SimpleNamespace(kind="cpu", workers=2))
    assert str(told.value) == (
        f"device 'cpu' has workers: 2, which needs Horovod, but {sys.executable} does not have it: "
        "run `make setup-workers` to build it into the TensorFlow environment. See docs/workers.md."
    )
    monkeypatch.setenv("HOROVOD_RANK", "1")  # started by horovodrun
    launcher.hand_on("cpu", SimpleNamespace(kind="cpu", workers=2))


def test_a_dry_run_shows_what_would_be_started_after_the_same_checks(monkeypatch, capsys):
    """Eight NPUs connected by a chief."""
    options = SimpleNamespace(kind="npu", workers=8, visible_device=0)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "--device", "npu", "--dry-run"])
    with pytest.raises(launcher.LaunchError, match="device 'npu' has workers: 8: nothing connects the NPUs"):
        launcher.hand_on("npu", options, dry_run=True)
    chief = {
        "CM_CHIEF_IP": "10.0.0.1",
        "CM_CHIEF_PORT": "29688",
        "CM_CHIEF_DEVICE": "0",
        "CM_WORKER_SIZE": "8",
        "CM_WORKER_IP": "10.0.0.1",
    }
    for name, value in chief.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended_with:
        launcher.hand_on("npu", options, dry_run=True)
    assert ended_with.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"worker {rank}: ASCEND_DEVICE_ID={rank} COVPOOL_RANK={rank} JOB_ID=covpool "
        f"{sys.executable} stages/train.py --device npu"
        for rank in range(8)
    ]


@pytest.mark.parametrize(
    "variables, wanted",
    [
        (
            {"CM_WORKER_SIZE": "8"},
            "has workers: 1, but CM_WORKER_SIZE is for 8: set device_options.npu.workers to 8 in",
        ),
        ({"RANK_SIZE": "2", "RANK_ID": "1", "RANK_TABLE_FILE": "/nowhere"}, "unset RANK_SIZE to train on one NPU"),
        ({"RANK_SIZE": "many"}, "RANK_SIZE must be a whole number of 1 or more, got 'many'"),
        ({"RANK_TABLE_FILE": "two.json"}, "RANK_TABLE_FILE is for 2: set device_options.npu.workers to 2"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_one_npu_does_not_train_alone_in_an_environment_of_several(tmp_path, monkeypatch, variables, wanted, dry_run):
    servers = [{"server_id": "10.0.0.1", "device": [{}, {}]}]
    (tmp_path / "two.json").write_text(json.dumps({"version": "1.0", "status": "completed", "server_list": servers}))
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value) if value.endswith(".json") else value)
    with pytest.raises(launcher.LaunchError) as told:
        launcher.hand_on("npu", SimpleNamespace(kind="npu", workers=1, visible_device=0), dry_run)
    assert wanted in str(told.value)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"RANK_SIZE": "1", "RANK_ID": "0"},
        {"CM_WORKER_SIZE": ""},
        {"RANK_TABLE_FILE": "/nowhere.json"},
    ],
)
def test_one_npu_by_itself_goes_on(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launcher.hand_on("npu", SimpleNamespace(kind="npu", workers=1, visible_device=0)) is None
