"""Stage evaluate: scores a split with a trained network.

stages/tf stages/evaluate.py --device cpu
"""

import argparse
import sys
from pathlib import Path

from covpool import config
from covpool.pipeline import artifacts, interpreter


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True, help="a name from device_options in params.yaml")
    name = parser.parse_args().device
    settings = config.load_params()
    if name not in settings.device_options:
        known = ", ".join(settings.device_options)
        raise config.ParamsError(f"--device {name!r}: device_options has {known}")
    interpreter.hand_on(name, settings.device_options[name])
    from covpool import devices
    from covpool.networks.checkpoints import CheckpointError
    from covpool.training.evaluation import evaluate

    try:
        evaluate(settings, name, Path("."))
    except (artifacts.ArtifactError, CheckpointError, devices.DeviceError) as error:
        sys.exit(f"evaluate: {error}")


if __name__ == "__main__":
    try:
        main()
    except config.ParamsError as error:
        sys.exit(f"evaluate: {error}")
    except KeyboardInterrupt:
        print("evaluate: interrupted", file=sys.stderr)
        sys.exit(130)
