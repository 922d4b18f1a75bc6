"""Whether a run could start: its devices are opened as the stage opens them, and nothing else is done.

    stages/tf -m covpool.diagnostics.probe --device npu

prints a JSON object as its last line:

- {"here": the device's name}, with the exit code 0, if the run could start;
- {"refused": the error message of the stage}, with the exit code 1, if it could not.

A process probes only one run. Opening a device sets environment variables, such as the number of the NPU, that would
affect the next probe. CUDA also reads only once which cards it may use. `stages/tf -m covpool.diagnostics` calls `run`
to start a probe for each entry of `device_options`.

The probe continues in the Python that the entry names. It starts and connects several workers in the same way as a run
does. It creates no folders.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from typing import Mapping

from covpool.config import ParamsError, load_params, run_options
from covpool.devices import DeviceError, LostWorkers, open_device, open_workers
from covpool.distributed import launcher
from covpool.pipeline import interpreter
from covpool.pipeline.project import TF_LAUNCHER

MODULE = "covpool.diagnostics.probe"
HERE, REFUSED = "here", "refused"


def run(name: str, environment: Mapping[str, str]) -> str:
    """Probe a run in a separate process.

    Args:
        name: the run, as in `device_options` of params.yaml.
        environment: the environment variables of the process.

    Returns:
        A sentence for people: the device that was found, or the error message of the run.
    """
    found = subprocess.run(
        [str(TF_LAUNCHER), "-m", MODULE, "--device", name], env=environment, text=True, capture_output=True
    )
    told = _told(found.returncode, found.stdout, found.stderr)
    return f"{told[HERE]} is here" if HERE in told else told[REFUSED]


def _told(code, out, error):
    """Return the dictionary in the last line of a probe's output, or the reason why the probe did not print it."""
    try:
        return json.loads(out.strip().split("\n")[-1])
    except ValueError:
        # The launcher reported an error, or a library ended the process.
        how = f"ended by {signal.Signals(-code).name}: " if code < 0 else ""
        # TensorFlow 2 may have printed messages before the launcher did.
        error = error[max(error.rfind("stages/tf: "), 0) :]
        return {REFUSED: how + (" ".join(error.split("\n")).strip() or f"exit code {code}")}


def _probe(name, options):
    """Probe a run with all its workers; returns {HERE or REFUSED: text}."""
    with launcher.environments(name, options) as environments:
        if environments == launcher.ITSELF:
            return {HERE: _open(name, options)}
        command = [sys.executable, "-m", MODULE, "--device", name, "--worker"]
        workers = [
            subprocess.Popen(
                command, env=dict(os.environ, **environment), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for environment in environments.values()
        ]
        outputs = [worker.communicate() for worker in workers]
    told = [_told(worker.returncode, *output) for worker, output in zip(workers, outputs)]
    # Workers that only lost the connection come last, because another worker's message gives the cause.
    order = sorted(range(len(told)), key=lambda rank: workers[rank].returncode == launcher.LOST)
    refused = [told[rank] for rank in order if REFUSED in told[rank]]
    names = [each.get(HERE) for each in told]
    together = names[0] if len(set(names)) == 1 else ", ".join(map(str, names))
    return refused[0] if refused else {HERE: f"{together}, for {options.workers} workers,"}


def _open(name, options):
    """Return the name of this process's device; raises DeviceError if the device can't be opened."""
    return open_device(name, options, open_workers(name, options), prepare=False).record["name"]


def main() -> None:
    """Probe the run that the command line names, and print the result.

    Raises:
        SystemExit: always; the code is 0 if the run could start, 1 if not, and `launcher.LOST` if the connection to
            the other workers failed.
    """
    parser = argparse.ArgumentParser(prog="stages/tf -m " + MODULE, description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True, help="a name from device_options in params.yaml")
    parser.add_argument("--worker", action="store_true", help="be one of several workers, as the environment says")
    arguments = parser.parse_args()
    name, code = arguments.device, 0
    try:
        options = run_options(load_params(), name)
        interpreter.hand_on(name, options, ["-m", MODULE] + sys.argv[1:])
        told = {HERE: _open(name, options)} if arguments.worker else _probe(name, options)
    except LostWorkers as error:
        told, code = {REFUSED: str(error)}, launcher.LOST
    except (DeviceError, launcher.LaunchError, ParamsError) as error:
        told = {REFUSED: str(error)}
    print(json.dumps(told), flush=True)
    sys.exit(code or int(REFUSED in told))


if __name__ == "__main__":
    main()
