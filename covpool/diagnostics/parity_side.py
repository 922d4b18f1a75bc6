"""One side of a comparison of devices: some training steps from given weights, and what each of them gave.

    stages/tf -m covpool.diagnostics.parity_side --device cpu --start PREFIX --steps 20 --out cpu.npz

`covpool.diagnostics.parity` starts it once for each side, so that each side has its own interpreter and TensorFlow.
Dropout is off, because the devices draw different dropout masks. Each session.run makes one step, also if the device
is set to run several steps in a loop. There is one worker, and the optimiser starts without a state.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from covpool import devices
from covpool.config import ParamsError, builds, load_params, run_options
from covpool.diagnostics import parity_record
from covpool.diagnostics.parity_record import LAYER, VALUES
from covpool.networks import checkpoints
from covpool.pipeline import artifacts, interpreter
from covpool.training import input_pipeline
from covpool.training.graph import NoDecomposition, TrainingGraph
from covpool.training.plan import training_side
from covpool.training.rates import learning_rate


def side_options(params: Any, side: str) -> Tuple[str, Any]:
    """Find the device options of a side.

    Args:
        params: a `config.Params`.
        side: `name`, or `name@build` or `name@/path/of/python` to use another TensorFlow.

    Returns:
        The name in `device_options`, and the options with one worker and without a loop on the device.

    Raises:
        ParamsError: `device_options` has no such name.
    """
    name, _, other = side.partition("@")
    options = dataclasses.replace(run_options(params, name, "the device"), workers=1)
    if other in builds.BUILDS:
        options = dataclasses.replace(options, build=other, python="")
    elif other:
        options = dataclasses.replace(options, python=other)
    return name, devices.without_loop(options)


class Side:
    """The training graph of a run on a device, with a session that is ready for its first step.

    Args:
        params: a `config.Params`.
        device: the device to train on.
        root: the folder with the pipeline's artifacts.
        rate: the learning rate, or None for the rate of the first epoch.

    Raises:
        ArtifactError: the data can't be read.
    """

    def __init__(self, params: Any, device: devices.Device, root: Path, rate: Optional[float] = None) -> None:
        params = dataclasses.replace(params, train=dataclasses.replace(params.train, keep_probability=1.0))
        side = training_side(params)
        faces = input_pipeline.load_faces(root / artifacts.FACES, "train", params.dataset.classes, side)
        self._graph = TrainingGraph(params, device, faces, lambda: 0, sys.maxsize)
        self._params, self._root = params, root
        self._rate = learning_rate(0, params.train) if rate is None else rate
        self._session = device.session(self._graph.graph)
        self._session.run(self._graph.initialise)
        self._graph.begin(self._session)

    def write_weights(self, prefix: Path) -> None:
        """Write the weights as a checkpoint that both sides start from.

        Args:
            prefix: the prefix of the checkpoint's files.

        Raises:
            OSError: the folder can't be created.
        """
        prefix.parent.mkdir(parents=True, exist_ok=True)
        self._graph.save_inference(self._session, prefix)

    def load_weights(self, prefix: Path) -> None:
        """Load the weights from a checkpoint and restart the moving averages.

        Args:
            prefix: the prefix of the checkpoint's files.

        Raises:
            CheckpointError: the checkpoint can't be read or does not fit the network.
        """
        self._graph.load(self._session, checkpoints.read_weights(prefix, self._graph.load.shapes))
        self._session.run(self._graph.restart_averages)

    def work(self, start: Path, steps: int) -> Dict[str, Any]:
        """List the inputs of the computation, see `parity_record.work`.

        Args:
            start: the prefix of the checkpoint that the side starts from.
            steps: the number of training steps.

        Returns:
            Plain values for JSON, by name.

        Raises:
            ArtifactError: the data or the checkpoint can't be read.
        """
        return parity_record.work(self._params, self._root, start, steps, self._rate)

    def train(self, steps: int) -> Dict[str, np.ndarray]:
        """Train for some steps.

        Args:
            steps: the number of training steps, 1 or more.

        Returns:
            The arrays of `parity_record` by name, without `about`.

        Raises:
            NoDecomposition: the covariance matrices are not finite.
        """
        graph, feed = self._graph, {self._graph.learning_rate: self._rate}
        first, layers = self._session.run([graph.step_values, graph.layer_outputs, graph.step], feed)[:2]
        values = [first] + [self._session.run([graph.step_values, graph.step], feed)[0] for _ in range(steps - 1)]
        found = {LAYER + name: output for name, output in layers.items()}
        found["values"] = np.array([[getattr(value, name) for name in VALUES] for value in values], np.float64)
        found["gradients"] = np.stack([value.norms for value in values])
        found["variables"] = np.array([each.op.name for each in graph.variables])
        return found


def main() -> None:
    """Run the side that the command line names, and write its file.

    Raises:
        SystemExit: the device, the data, the checkpoint or the parameters can't be used.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True, help="a name from device_options, or name@build, or name@python")
    parser.add_argument("--start", type=Path, required=True, help="prefix of a checkpoint; made where there is none")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, help="default: that of the first epoch")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    options = parser.parse_args()
    try:
        params = load_params()
        name, wanted = side_options(params, options.device)
        interpreter.hand_on(name, wanted, ["-m", "covpool.diagnostics.parity_side"] + sys.argv[1:])
        device = devices.open_device(name, wanted)
        side = Side(params, device, Path("."), options.learning_rate)
        if not options.start.with_name(options.start.name + ".index").is_file():
            side.write_weights(options.start)
        side.load_weights(options.start)
        about = {
            "side": options.device,
            "device": device.record,
            "tensorflow": devices.describe_tensorflow(),
            "work": side.work(options.start, options.steps),
        }
        parity_record.write(options.out, about, side.train(options.steps))
    except NoDecomposition:
        sys.exit(f"parity: {options.device}: the covariance matrices are not finite.")
    except (artifacts.ArtifactError, checkpoints.CheckpointError, devices.DeviceError, ParamsError, OSError) as error:
        sys.exit(f"parity: {options.device}: {error}")


if __name__ == "__main__":
    main()
