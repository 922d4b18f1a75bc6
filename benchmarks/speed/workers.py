"""The asking side: starts the measured processes, puts requests to them, and watches what they and the machine do."""

import contextlib
import json
import os
import subprocess
import threading
import time
from pathlib import Path

from benchmarks.speed import machine

ROOT = Path(__file__).resolve().parent.parent.parent
#: Seconds between two looks at a process's memory.
WATCH = 0.05


class WorkerFailed(RuntimeError):
    """A measured process ended, or answered nothing; the message has the end of its log."""


class Worker:
    """A measured process.

    name: for errors; command: what runs, from the project's root; log: the file for its stderr; environment: changes to
    this process's own, None removing a variable; cores: those that it may use.
    """

    def __init__(self, name, command, log, environment=None, cores=None):
        self.name = name
        self.log = Path(log)
        self.cores = sorted(cores or os.sched_getaffinity(0))
        self.peak_anonymous = 0
        variables = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
        for key, value in (environment or {}).items():
            variables.pop(key, None)
            if value is not None:
                variables[key] = value
        self.started = time.perf_counter()
        with open(self.log, "w") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=variables,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
            )
        threading.Thread(target=self._watch, daemon=True).start()

    def ask(self, what, **arguments):
        """The answer to a request; raises WorkerFailed where none comes."""
        try:
            self.process.stdin.write(json.dumps({"do": what, "with": arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.process.wait()
            end = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
            raise WorkerFailed(f"{self.name}: asked for {what!r}, it ended with code {code}. Its log ends:\n{end}")
        return json.loads(line)["answer"]

    def ask_watched(self, what, **arguments):
        """The answer, and the share of this process's cores that others used meanwhile."""
        before = machine.busy_seconds(self.cores), self.cpu_seconds(), time.perf_counter()
        answer = self.ask(what, **arguments)
        after = machine.busy_seconds(self.cores), self.cpu_seconds(), time.perf_counter()
        busy, own, passed = (late - early for early, late in zip(before, after, strict=True))
        return answer, max(0.0, busy - own) / (passed * len(self.cores))

    def cpu_seconds(self):
        return machine.process_seconds(self.process.pid)

    def since_start(self):
        return time.perf_counter() - self.started

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None and not self.process.stdin.closed:
            self.close()

    def _watch(self):
        """The most memory that is the process's own, not files that it maps: RssAnon."""
        path = Path(f"/proc/{self.process.pid}/status")
        with contextlib.suppress(OSError, ValueError):
            while self.process.poll() is None:
                for line in path.read_text().splitlines():
                    if line.startswith("RssAnon:"):
                        self.peak_anonymous = max(self.peak_anonymous, int(line.split()[1]) * 1024)
                time.sleep(WATCH)


def settle(workers, quiet=0.05, window=0.1, at_most=5.0):
    """Wait until the workers, of which one may prepare its next batch, use less than `quiet` of a core in a window."""
    end = time.perf_counter() + at_most
    while time.perf_counter() < end:
        before = sum(each.cpu_seconds() for each in workers)
        time.sleep(window)
        if sum(each.cpu_seconds() for each in workers) - before <= quiet * window:
            return
