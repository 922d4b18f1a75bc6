"""Checks the machine before anything runs: its devices, its TensorFlow, and the path of the project.

`stages/check.py` without `--stage` (and so `make repro`) and `train.sh` use it. The DVC stage `check` does not, because
its result must not depend on the machine.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Optional, Union

from covpool.config import Params, builds
from covpool.pipeline import artifacts
from covpool.pipeline.project import TF_LAUNCHER

if TYPE_CHECKING:
    from covpool.config.sections import CpuOptions, GpuOptions, NpuOptions

#: A module that prints {"here": ...} or {"refused": the message of the error} as its last line.
PROBE = "covpool.diagnostics.probe"


def missing_devices(params: Params) -> Iterator[str]:
    """Find the runs in `devices` that have no results yet and can't be trained on this machine.

    A single CPU worker with the default TensorFlow is not checked. It is always available, and TensorFlow takes seconds
    to start.

    Args:
        params: The parameters of the pipeline.

    Yields:
        One sentence for each such run.
    """
    for name in params.devices:
        options = params.device_options[name]
        plain = options.kind == "cpu" and options.workers == 1 and _is_default(options)
        if plain or (artifacts.RUNS / name / "run.json").is_file():
            continue
        refused = _refused(name)
        if refused:
            yield (
                f"devices: {name} can't be trained on this machine: {refused} If another machine trains it, see "
                '"Two machines" in README.md.'
            )


def _is_default(options: "Union[CpuOptions, GpuOptions, NpuOptions]") -> bool:
    """Return whether a run uses the default TensorFlow."""
    return options.build == builds.DEFAULT and not options.python


def _refused(name: str) -> str:
    """Return why a run can't start on this machine; "" if it can."""
    done = subprocess.run([str(TF_LAUNCHER), "-m", PROBE, "--device", name], text=True, capture_output=True)
    try:
        return json.loads(done.stdout.strip().split("\n")[-1]).get("refused", "")
    except ValueError:
        if done.returncode < 0:
            return f"TensorFlow was ended by {signal.Signals(-done.returncode).name}."
        # The launcher's own message comes last.
        return " ".join(done.stderr[max(done.stderr.rfind("stages/tf: "), 0) :].split()) or "TensorFlow did not start."


def other_builds(params: Params) -> Iterator[str]:
    """Find the trained runs that would now use another TensorFlow build. DVC can't detect this change.

    Args:
        params: The parameters of the pipeline.

    Yields:
        One sentence for each such run.
    """
    default = default_build()
    for name in params.devices:
        if not default or not _is_default(params.device_options[name]):
            continue
        try:
            trained = artifacts.read_json(artifacts.RUNS / name / "run.json")["tensorflow"]["build"]
        except (artifacts.ArtifactError, KeyError, TypeError):
            continue
        if trained != default:
            yield (
                f"{name} was trained with the TensorFlow build {trained}, and the default build is {default} now. DVC "
                f"does not see this change. Set device_options.{name}.build to {default} to train again with it, or "
                f"to {trained} to keep the results."
            )


def default_build() -> Optional[str]:
    """Return the TensorFlow build of runs that select none.

    Returns:
        The name of the build. None if COVPOOL_TF_PYTHON selects an interpreter, or if no build is set up.
    """
    if os.environ.get("COVPOOL_TF_PYTHON"):
        return None
    if os.environ.get("TF_BUILD"):
        return os.environ["TF_BUILD"]
    link = TF_LAUNCHER.parent.parent / builds.LINK
    folder = os.readlink(str(link)) if link.is_symlink() else ""
    return next((name for name, place in builds.BUILDS.items() if place == Path(folder).name), None)


def place_problem() -> str:
    """Return what does not work because of the path of the project.

    Returns:
        One sentence; "" if everything works.
    """
    place = str(Path.cwd())
    if place.isascii():
        return ""
    return (
        f"the path {place} has characters outside ASCII, which DVC's queued and temporary experiments can't handle "
        "(`dvc exp run --queue` and `--temp`). `dvc repro` and plain `dvc exp run` work."
    )
