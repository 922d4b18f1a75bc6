"""Whether a run could start: its devices are opened as the stage opens them, and nothing else is done.

    stages/tf -m covpool.diagnostics.probe --device npu

prints, as the last line, {"here": what was found} or {"refused": the sentence by which the stage would end}, and exits
with 0 or 1. A process probes one run only: opening a device sets variables that the next one would find (which NPU),
and CUDA looks only once at which cards it may see. `python -m covpool.diagnostics` starts it for each entry of
device_options, by `run`. The probe goes on in the Python that the entry names, and several workers are started, and
connected, as those of a run; no folder is made.
"""

import argparse
import json
import os
import signal
import subprocess
import sys

from covpool.config import ParamsError, load_params, run_options
from covpool.devices import DeviceError, LostWorkers, open_device, open_workers
from covpool.distributed import launcher
from covpool.pipeline import interpreter
from covpool.pipeline.project import TF_LAUNCHER

MODULE = "covpool.diagnostics.probe"
HERE, REFUSED = "here", "refused"


def run(name, environment):
    """What a process of its own finds for the run `name`, a sentence. environment: variables, {name: value}."""
    found = subprocess.run(
        [str(TF_LAUNCHER), "-m", MODULE, "--device", name], env=environment, text=True, capture_output=True
    )
    told = _told(found.returncode, found.stdout, found.stderr)
    return f"{told[HERE]} is here" if HERE in told else told[REFUSED]


def _told(code, out, error):
    """The last line of a probe's output, a dictionary; of one that did not come so far, why."""
    try:
        return json.loads(out.strip().split("\n")[-1])
    except ValueError:
        # The launcher of the interpreter refused, or a library ended the process.
        how = f"ended by {signal.Signals(-code).name}: " if code < 0 else ""
        # TensorFlow 2 may have talked before the launcher did.
        error = error[max(error.rfind("stages/tf: "), 0) :]
        return {REFUSED: how + (" ".join(error.split("\n")).strip() or f"exit code {code}")}


def _probe(name, options):
    """{HERE or REFUSED: text} of a run with all its workers."""
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
    # Those that found nobody to connect with come last: another one knows why.
    order = sorted(range(len(told)), key=lambda rank: workers[rank].returncode == launcher.LOST)
    refused = [told[rank] for rank in order if REFUSED in told[rank]]
    names = [each.get(HERE) for each in told]
    together = names[0] if len(set(names)) == 1 else ", ".join(map(str, names))
    return refused[0] if refused else {HERE: f"{together}, for {options.workers} workers,"}


def _open(name, options):
    """What the device of this process is called; DeviceError where there is none."""
    return open_device(name, options, open_workers(name, options), prepare=False).record["name"]


def main():
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
