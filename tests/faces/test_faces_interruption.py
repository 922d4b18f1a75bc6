"""A run that is interrupted leaves nothing incomplete and resumes, a full disk is named, and memory stays bounded."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faces.stage import CLASSES, content, normalise

# Pictures that an interrupted run has finished.
DONE = 15

SCRIPT = """
    import sys
    from pathlib import Path
    from covpool.faces import normalise_dataset
    if __name__ == "__main__":
        root = Path(sys.argv[1])
        normalise_dataset(root / "manifest.csv", root / "raw", root / "faces", root / "sheets", classes={classes},
                          cache=root / "cache", workers=2, progress=lambda done, total: print(done, flush=True))
"""


def started(dataset) -> subprocess.Popen:
    """Start a run of its own on many pictures and wait until some are done."""
    originals = [(row, np.array(Image.open(dataset.images / row["path"]))) for row in dataset.rows]
    for copy in range(10):
        for number, (row, picture) in enumerate(originals):
            picture[0, 0] = copy
            dataset.add(f"{row['split']}/{row['class']}/{copy}_{number}.png", picture)
    script = dataset.root / "run.py"
    script.write_text(textwrap.dedent(SCRIPT.format(classes=CLASSES)))
    run = subprocess.Popen(
        [sys.executable, str(script), str(dataset.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
    )
    for _ in range(DONE):
        assert run.stdout.readline()
    return run


def members(group: int) -> list[str]:
    """Processes of a group that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(entry.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_whole_and_goes_on(faces, how):
    run = started(faces)
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # As a terminal does on Ctrl-C: to parent and workers.
    else:
        run.send_signal(how)
    assert run.wait(timeout=20) != 0
    deadline = time.monotonic() + 10
    while members(run.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    outlived = members(run.pid)
    for process in outlived:
        os.kill(int(process), signal.SIGKILL)
    assert not outlived, "workers must not outlive the run"
    done = DONE + len(run.stdout.read().split())
    run.stdout.close()
    assert done < len(faces.rows), "the test is void if the run was already over"
    left = content(faces.root / "faces")
    assert not any(name.endswith((".npy", ".csv", ".json")) and not name.startswith(".") for name in left)
    if how == signal.SIGINT:
        assert left == {}
    kept = len(list((faces.root / "cache").rglob("*.json")))
    assert done <= kept < len(faces.rows)


def test_the_interruption_is_worth_something(faces):
    """What the earlier run found is used, and the result is that of an undisturbed run."""
    cache = faces.root / "cache"
    every = list(faces.rows)
    del faces.rows[7:]
    faces.write()
    normalise(faces, "partial", cache=cache)
    faces.rows[:] = every
    faces.write()
    resumed, _ = normalise(faces, "resumed", cache=cache)
    fresh, _ = normalise(faces, "fresh")
    assert content(resumed) == content(fresh)


MEASURE = """
    import re, sys
    from pathlib import Path
    from covpool.faces import normalise_dataset

    root, peaks = Path(sys.argv[1]), []

    def measure(done, total):
        if done % 50 == 0:
            peaks.append(int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))

    normalise_dataset(root / "manifest.csv", root / "raw", root / "faces", root / "sheets", classes=["anger"],
                      detector="none", workers=1, progress=measure)
    print(max(peaks))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the process's memory from /proc")
def test_memory_does_not_grow_with_the_pictures(dataset, noise):
    """Memory of the process itself: what the system caches of its files does not count."""
    for number in range(2):
        dataset.add(f"train/anger/{number}.png", noise(number))
    rows = list(dataset.rows)
    script = dataset.root / "run.py"
    script.write_text(textwrap.dedent(MEASURE))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    peaks = []
    for count in (100, 700):
        dataset.rows[:] = [rows[number % 2] for number in range(count)]
        dataset.write()
        command = [sys.executable, str(script), str(dataset.root)]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        peaks.append(int(done.stdout))
    # 600 more crops are 23 MB. A few hundred kB of sheets and the allocator's slack may differ.
    assert peaks[1] - peaks[0] < 8_000


def test_a_cache_that_cannot_be_written_is_named(dataset, scored, scripted, monkeypatch):
    """The stage's frame makes a sentence of the place (tests/pipeline/test_stage_frame.py)."""
    dataset.add("train/anger/a.png", scored(255))

    def full(self, *arguments, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left") as caught:
        normalise(dataset, cache=dataset.root / "cache")
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value.filename).startswith(str(dataset.root / "cache"))
    assert content(dataset.root / "faces") == {} and content(dataset.root / "cache") == {}
