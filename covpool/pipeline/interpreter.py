"""Runs a stage again under the TensorFlow that its run asks for (`build`, `python` in device_options), if it has to.

`stages/tf` starts the default TensorFlow, which can read the parameters; those may name another one for a run, so that
two builds can be trained and compared side by side. The process is replaced, so signals and exit codes still arrive.
"""

import os
import sys

from covpool.pipeline.project import TF_LAUNCHER

#: Set for the process that takes over, so that it can't be handed on again.
HANDED_ON = "COVPOOL_HANDED_ON"
#: Tells the launcher which parameter it acts on, for its messages.
SETTING = "COVPOOL_TF_SETTING"


def hand_on(name, options, arguments=None):
    """Go on in the interpreter that `options` (device_options.<name>) ask for; returns where this is it.

    arguments: of the interpreter, for a module that was started with -m; None: the script's own.
    """
    wanted = options.python or options.build
    if wanted in ("", "default") or os.environ.get(HANDED_ON) == wanted:
        return
    found = dict(environment(name, options), **{HANDED_ON: wanted})
    launcher = str(TF_LAUNCHER)
    sys.stdout.flush()
    os.execve(launcher, [launcher] + (arguments or sys.argv), found)


def environment(name, options):
    """This process's environment, changed so that `stages/tf` starts the interpreter that a run asks for.

    name: of the run; options: its device_options.
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
