"""Restarts a stage under the TensorFlow that its run selects (`build`, `python` in device_options), if necessary.

`stages/tf` starts the default TensorFlow, which reads the parameters. The parameters may select another TensorFlow for
a run, so that two builds can be trained and compared. The restart replaces the process, so that signals and exit codes
still reach the right process.
"""

import os
import sys
from typing import TYPE_CHECKING, Dict, List, Optional, Union

from covpool.pipeline.project import TF_LAUNCHER

if TYPE_CHECKING:
    from covpool.config.sections import CpuOptions, GpuOptions, NpuOptions

#: The environment variable that is set for the new process, so that it is not restarted again.
HANDED_ON = "COVPOOL_HANDED_ON"
#: The environment variable with the parameter that selects the interpreter, for the messages of `stages/tf`.
SETTING = "COVPOOL_TF_SETTING"


def hand_on(
    name: str, options: "Union[CpuOptions, GpuOptions, NpuOptions]", arguments: Optional[List[str]] = None
) -> None:
    """Continue in the interpreter that a run selects. It returns only if this is already the right interpreter.

    Args:
        name: The name of the run.
        options: The `device_options` of the run.
        arguments: The arguments of the interpreter, for a module that was started with -m. None takes those of the
            script.
    """
    wanted = options.python or options.build
    if wanted in ("", "default") or os.environ.get(HANDED_ON) == wanted:
        return
    found = dict(environment(name, options), **{HANDED_ON: wanted})
    launcher = str(TF_LAUNCHER)
    sys.stdout.flush()
    os.execve(launcher, [launcher] + (arguments or sys.argv), found)


def environment(name: str, options: "Union[CpuOptions, GpuOptions, NpuOptions]") -> Dict[str, str]:
    """Return the environment with which `stages/tf` starts the interpreter that a run selects.

    Args:
        name: The name of the run.
        options: The `device_options` of the run.

    Returns:
        The environment variables of this process with the necessary changes.
    """
    found = dict(os.environ)
    if options.python:
        found["COVPOOL_TF_PYTHON"] = options.python
    elif options.build != "default":
        found.pop("COVPOOL_TF_PYTHON", None)
        found["TF_BUILD"] = options.build
    else:
        return found
    found[SETTING] = "device_options.{}.{}".format(name, "python" if options.python else "build")
    return found
