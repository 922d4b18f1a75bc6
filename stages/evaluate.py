"""Stage evaluate: scores a split with a trained network.

stages/tf stages/evaluate.py --device cpu
"""

import argparse
from pathlib import Path

from covpool.config import run_options
from covpool.pipeline import artifacts, interpreter
from covpool.pipeline.stage_frame import no_empty_folder, quiet_import, sentences, stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True, help="a name from device_options in params.yaml")
    name = parser.parse_args().device
    with stage("evaluate", lock=f"evaluate-{name}") as params:
        interpreter.hand_on(name, run_options(params, name))
        # TensorFlow takes seconds to load: wrong parameters are reported before that.
        with quiet_import():
            from covpool.devices import DeviceError
            from covpool.networks.checkpoints import CheckpointError
            from covpool.training.evaluation import evaluate, trained_run
            from covpool.training.run_key import key
            from covpool.training.state import KEY_LENGTH, forget, training_states

        with no_empty_folder(artifacts.EVALUATION / name), sentences("evaluate", CheckpointError, DeviceError):
            # DVC starts this stage only after it stored what the training wrote: its working state has served.
            run = trained_run(name, Path("."))
            if run is not None:
                forget(training_states(), name, key(run)[:KEY_LENGTH])
            evaluate(params, name, Path("."))


if __name__ == "__main__":
    main()
