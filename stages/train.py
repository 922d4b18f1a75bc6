"""Stage train: trains the network on one of the runs in `devices`.

stages/tf stages/train.py --device cpu
"""

import argparse
import sys
from pathlib import Path

from covpool.config import run_options
from covpool.distributed import launcher
from covpool.pipeline import artifacts, interpreter
from covpool.pipeline.stage_frame import no_empty_folder, quiet_import, sentences, stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True, help="a name from device_options in params.yaml")
    parser.add_argument(launcher.DRY_RUN, action="store_true", help="print what workers would be started, and end")
    arguments = parser.parse_args()
    name = arguments.device
    # The trainer locks its working state, which parallel experiments share; so this stage needs no lock.
    with stage("train", launcher.LaunchError) as params:
        options = run_options(params, name)
        interpreter.hand_on(name, options)
        launcher.hand_on(name, options, arguments.dry_run)
        # TensorFlow takes seconds to load: wrong parameters are reported before that.
        with quiet_import():
            from covpool.devices import DeviceError, LostWorkers
            from covpool.networks.checkpoints import CheckpointError
            from covpool.training.finite import NotFinite
            from covpool.training.state import StateError, training_states
            from covpool.training.trainer import Interrupted, Trainer

        errors = (CheckpointError, StateError, NotFinite, DeviceError)
        try:
            with no_empty_folder(artifacts.RUNS / name), sentences("train", *errors):
                Trainer(params, name, Path("."), training_states(), Path("tensorboard") / name).run()
        except Interrupted as error:
            end(error, 128 + error.signal)
        except LostWorkers as error:
            end(error, launcher.LOST)


def end(error: Exception, code: int) -> None:
    """End with a sentence and an exit code that says how."""
    print(f"train: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
