"""Stage train: trains the network on one of the runs in `devices`.

stages/tf stages/train.py --device cpu
"""

import argparse
import os
import sys
from pathlib import Path

from covpool import config
from covpool.distributed import launcher
from covpool.pipeline import artifacts, interpreter


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True, help="a name from device_options in params.yaml")
    parser.add_argument(launcher.DRY_RUN, action="store_true", help="print what workers would be started, and end")
    arguments = parser.parse_args()
    name = arguments.device
    # TensorFlow takes seconds to load: wrong parameters are told before.
    settings = config.load_params()
    if name not in settings.device_options:
        known = ", ".join(settings.device_options)
        raise config.ParamsError(f"--device {name!r}: device_options has {known}")
    interpreter.hand_on(name, settings.device_options[name])
    launcher.hand_on(name, settings.device_options[name], arguments.dry_run)
    from covpool import devices
    from covpool.networks.checkpoints import CheckpointError
    from covpool.training.state import StateError
    from covpool.training.trainer import Interrupted, NotFinite, Trainer

    # Experiments that DVC runs in a copy of the project keep their working state where the project is.
    project = Path(os.environ.get("DVC_ROOT", "."))
    try:
        Trainer(settings, name, Path("."), project / ".covpool" / "training", Path("tensorboard") / name).run()
    except Interrupted as error:
        print(f"train: {error}", file=sys.stderr)
        sys.exit(128 + error.signal)
    except devices.LostWorkers as error:
        print(f"train: {error}", file=sys.stderr)
        sys.exit(launcher.LOST)
    except (artifacts.ArtifactError, CheckpointError, StateError, NotFinite, devices.DeviceError) as error:
        sys.exit(f"train: {error}")


if __name__ == "__main__":
    try:
        main()
    except (config.ParamsError, launcher.LaunchError) as error:
        sys.exit(f"train: {error}")
    except KeyboardInterrupt:
        # Before the first step there is nothing to save; after it the trainer takes care of the signal.
        print("train: interrupted", file=sys.stderr)
        sys.exit(130)
