"""A project whose run has several workers, as processes that a test starts, watches and disturbs."""

import os
import subprocess
import time

import numpy as np

from tests.tf.training import training_project
from tests.tf.training.training_project import ROOT, Project

#: Starts the stage with something changed; see there.
CHANGED_STAGE = ROOT / "tests" / "workers" / "changed_stage.py"


class TeamProject(Project):
    def __init__(self, folder, workers, changes=None, device="cpu"):
        super().__init__(folder, dict({"device_options.cpu.workers": workers}, **(changes or {})), device)

    def start(self, change=None, launcher=()):
        """The stage; change: of what it does, by the name of a function in changed_stage.py."""
        script = ROOT / "stages" / "train.py" if change is None else CHANGED_STAGE
        return subprocess.Popen(
            ("nice", *launcher, str(ROOT / "stages" / "tf"), str(script), "--device", self.device),
            cwd=str(self.folder),
            env=self._environment(change),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def _environment(self, change):
        alone = self.params.device_options[self.device].workers == 1
        return dict(self.environment, CHANGE=change or "", CHANGE_ALONE="yes" if alone else "")

    def run(self, change=None, launcher=()):
        return ended(self.start(change, launcher))

    def variables(self, rank):
        """All variables of a worker after the last epoch of a changed stage."""
        with np.load(str(self.folder / f"variables-{rank}.npz")) as found:
            return dict(found)

    def log(self, rank):
        return (self.folder / ".covpool/workers" / f"{self.device}-{rank}.log").read_text()


def ended(process, patience=240):
    out, err = process.communicate(timeout=patience)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def workers_of(process, variable="HOROVOD_RANK"):
    """The process ids of a stage's workers, by rank, which the variable tells."""
    found = {}
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat") as stream:
                parent = int(stream.read().rsplit(")", 1)[1].split()[1])
            if parent == process.pid:
                with open(f"/proc/{name}/environ") as stream:
                    environment = dict(each.split("=", 1) for each in stream.read().split("\0") if "=" in each)
                found[int(environment[variable])] = int(name)
        except (OSError, KeyError, ValueError):
            pass
    return [found[rank] for rank in sorted(found)]


def wait_until(reached, process, patience=120):
    end = time.monotonic() + patience
    while not reached():
        assert process.poll() is None, "ended too early: " + process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.002)


def finished_steps(project):
    return [int(path.name[5:]) for state in project.states() for path in state.glob("step-????????")]


__all__ = ["ROOT", "TeamProject", "ended", "finished_steps", "training_project", "wait_until", "workers_of"]
