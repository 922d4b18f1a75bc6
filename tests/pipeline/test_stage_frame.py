"""What a stage does around its work: one sentence for each error of the system, and one process at a time."""

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from covpool.pipeline import stage_frame
from tests.project import ROOT


def ended(error, *errors):
    """What the script says that meets `error` in its block, and its exit code."""
    with pytest.raises(SystemExit) as caught, stage_frame.sentences("work", *errors):
        raise error
    return caught.value.code


@pytest.mark.parametrize(
    "error, sentence",
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "{here}/new/file"),
            r"disk is full: \d+ MB are free at {here}\.",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "{here}/file"), r"disk is full: \d+ MB are free at {here}\."),
        (OSError(errno.ENOSPC, "No space left on device"), r"disk is full: \d+ MB are free at /.*\. Free some space"),
        (OSError("1000 requested and 512 written"), r"disk is full: "),
        (
            PermissionError(errno.EACCES, "Permission denied", "{here}/file"),
            r"no permission to read or write {here}/file",
        ),
        (OSError(errno.EROFS, "Read-only file system", "{here}/file"), r"no permission .*: Read-only file system\."),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "{here}/file"),
            r"{here}/file: Not a directory\. Check",
        ),
        (OSError("the line broke"), r"the line broke"),
        (MemoryError(), r"out of memory\. .*`taskset"),
        (ValueError("a sentence of the stage"), r"a sentence of the stage"),
    ],
)
def test_an_error_is_one_sentence_with_the_place_and_what_to_do(tmp_path, error, sentence):
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.format(here=tmp_path)
    found = ended(error, ValueError)
    assert found.startswith("work: ") and "\n" not in found
    assert re.match("work: .*" + sentence.format(here=tmp_path), found), found


def test_the_disk_of_a_folder_that_is_a_link_counts(tmp_path, monkeypatch):
    """`models/` may lie on another disk, which is the full one; the error does not always name a file."""
    (tmp_path / "models").symlink_to("/dev/shm")
    monkeypatch.chdir(tmp_path)
    free = {"/dev/shm": 0}
    real = os.statvfs

    def statvfs(path):
        found = list(real(path))
        found[4] = free.get(os.path.realpath(path), 10**9)
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert "disk is full: 0 MB are free at /dev/shm." in ended(OSError(errno.ENOSPC, "No space left on device"))


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), stage_frame.sentences("work", ValueError):
        raise ZeroDivisionError


def test_numpy_reports_a_full_disk_as_we_expect(tmp_path):
    """The kernel refuses to let a file grow beyond a limit as it does on a full disk, but with another number."""
    code = f"""
        import resource, signal, numpy
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        from covpool.pipeline.stage_frame import sentences
        with sentences("work"):
            numpy.zeros(10**6).tofile({str(tmp_path / "x")!r})
    """
    done = run(code, tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("work: the disk is full: "), done.stderr


def run(code, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)


WORK = """
    import sys, time
    from pathlib import Path
    from covpool.pipeline.stage_frame import only_one
    with only_one("work", "a lock"):
        with open("log", "a") as log:
            print(sys.argv[1], "begins", file=log, flush=True)
            while not Path("may end").exists():
                time.sleep(0.01)
            print(sys.argv[1], "ends", file=log, flush=True)
"""


@pytest.mark.parametrize("end", ["pass", "os.abort()"])
def test_tensorflows_greeting_is_left_out_and_nothing_else(tmp_path, end):
    """TensorFlow's libraries write to the file descriptor, and may end the process: that is still read."""
    code = f"""
        import os
        from covpool.pipeline.stage_frame import quiet_import
        with quiet_import():
            for line in ("WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
                         "I0000 00:00:1 1 port.cc:153] oneDNN custom operations are on. You may see ...",
                         "F0000 This processor lacks AVX."):
                os.write(2, line.encode() + b"\\n")
            {end}
        os.write(2, b"oneDNN custom operations are on, after the import\\n")
    """
    done = run(code, tmp_path)
    after = [] if end == "os.abort()" else ["oneDNN custom operations are on, after the import"]
    assert done.stderr.splitlines()[:1] == ["F0000 This processor lacks AVX."]
    assert done.stderr.splitlines()[-1:] == (after or ["F0000 This processor lacks AVX."])


def start(folder, name):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(WORK), name]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stderr=subprocess.PIPE)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_process_waits_for_the_first_to_end(tmp_path, killed):
    log = tmp_path / "log"
    first = start(tmp_path, "first")
    until(lambda: log.exists() and "first begins" in log.read_text())
    second = start(tmp_path, "second")
    message = second.stderr.readline()
    assert f"another process (number {first.pid}) is still writing" in message and f"`kill {first.pid}`" in message
    assert "second" not in log.read_text()
    if killed:
        first.send_signal(signal.SIGKILL)
        until(lambda: "second begins" in log.read_text())
    (tmp_path / "may end").touch()
    assert second.wait(60) == 0 and first.wait(60) == (-signal.SIGKILL if killed else 0)
    lines = log.read_text().splitlines()
    assert lines == ["first begins", *([] if killed else ["first ends"]), "second begins", "second ends"]
    first.stderr.close()
    second.stderr.close()


def test_a_folder_is_removed_only_if_it_is_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for name in ("empty", "full", "missing"):
        with pytest.raises(ValueError), stage_frame.no_empty_folder(tmp_path / name):
            raise ValueError
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    (tmp_path / "data").mkdir(mode=0o500)
    done = subprocess.run(
        [str(ROOT / "stages" / "py"), str(ROOT / "stages" / "check.py"), "--stage"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1 and "no permission" in done.stderr and "Traceback" not in done.stderr
