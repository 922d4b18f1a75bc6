"""The sides of the benchmark by name: how the process of each is started."""

import os
import sys

from benchmarks.speed.workers import ROOT, Worker
from covpool.config.builds import BUILDS

DEFAULT_BUILD = "intel"
#: What glibc's allocator is told so that it keeps a step's memory: as stages/tf does, here for PyTorch.
TUNED_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
#: Variables by which a user may have tuned a process: the untuned sides start without them.
TUNING = ("KMP_BLOCKTIME", "KMP_AFFINITY", "OMP_NUM_THREADS", "LD_PRELOAD", "TF_ENABLE_ONEDNN_OPTS", *TUNED_ALLOCATOR)
UNTUNED = {**dict.fromkeys(TUNING), "TF_CPP_MIN_LOG_LEVEL": "3"}


class Sides:
    """Starts processes whose logs lie in a folder."""

    def __init__(self, logs):
        self.logs = logs
        self._started = 0

    def ours(self, build, cores=None, module="side_ours"):
        """The pipeline's own TensorFlow code, by the launcher."""
        environment = {"TF_BUILD": build, "COVPOOL_TF_PYTHON": None}
        return self._start(f"ours, {build}", ["stages/tf", *_module(module)], environment, cores)

    def textbook(self, cores=None):
        """The textbook graph on TensorFlow 1.15 as published, with nothing tuned."""
        return self._start("textbook", [f"{BUILDS['stock']}/bin/python", *_module("side_textbook")], UNTUNED, cores)

    def peers(self, module, tuned=False, cores=None):
        """A module that needs the peers' environment; tuned: with the allocator settings of stages/tf."""
        environment = {**UNTUNED, **(TUNED_ALLOCATOR if tuned else {})}
        return self._start(module, [".venv-bench/bin/python", *_module(module)], environment, cores)

    def current(self, module, cores=None):
        """A module that needs the pipeline's current Python."""
        return self._start(module, [sys.executable, *_module(module)], {}, cores)

    def _start(self, name, command, environment, cores):
        self._started += 1
        log = os.path.join(self.logs, f"{self._started:03}.log")
        return Worker(name, command, log, environment, cores)


def _module(name):
    return ["-m", f"benchmarks.speed.{name}"]


def usable_cores():
    return sorted(os.sched_getaffinity(0))


__all__ = ["BUILDS", "DEFAULT_BUILD", "ROOT", "Sides", "usable_cores"]
