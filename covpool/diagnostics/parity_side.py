"""One side of a comparison of devices: some training steps from given weights, and what each of them gave.

    stages/tf -m covpool.diagnostics.parity_side --device cpu --start PREFIX --steps 20 --out cpu.npz

`covpool.diagnostics.parity` starts it once for each side, so that each side has its own interpreter and TensorFlow.
Dropout is off, because a device with its own dropout draws other masks. A loop on the device is run step by step.
There is one worker, and the optimiser starts without a state.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

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


def side_options(params, side):
    """Name and device_options of a side: `name`, or `name@build` or `name@/path/of/python` for another TensorFlow."""
    name, _, other = side.partition("@")
    options = dataclasses.replace(run_options(params, name, "the device"), workers=1)
    if other in builds.BUILDS:
        options = dataclasses.replace(options, build=other, python="")
    elif other:
        options = dataclasses.replace(options, python=other)
    return name, devices.without_loop(options)


class Side:
    """The training graph of a run on a device, with a session that is ready for its first step.

    root: the folder in which the pipeline's artifacts lie; rate: the learning rate, None: that of the first epoch.
    """

    def __init__(self, params, device, root, rate=None):
        params = dataclasses.replace(params, train=dataclasses.replace(params.train, keep_probability=1.0))
        side = training_side(params)
        faces = input_pipeline.load_faces(root / artifacts.FACES, "train", params.dataset.classes, side)
        self._graph = TrainingGraph(params, device, faces, lambda: 0, sys.maxsize)
        self._params, self._root = params, root
        self._rate = learning_rate(0, params.train) if rate is None else rate
        self._session = device.session(self._graph.graph)
        self._session.run(self._graph.initialise)
        self._graph.begin(self._session)

    def write_weights(self, prefix):
        """Its weights as a checkpoint, for both sides to start from."""
        prefix.parent.mkdir(parents=True, exist_ok=True)
        self._graph.save_inference(self._session, prefix)

    def load_weights(self, prefix):
        self._graph.load(self._session, checkpoints.read_weights(prefix, self._graph.load.shapes))
        self._session.run(self._graph.restart_averages)

    def work(self, start, steps):
        """What so many steps from the checkpoint `start` compute, see `parity_record.work`."""
        return parity_record.work(self._params, self._root, start, steps, self._rate)

    def train(self, steps):
        """Train so many steps; returns the arrays of `parity_record`."""
        graph, feed = self._graph, {self._graph.learning_rate: self._rate}
        first, layers = self._session.run([graph.step_values, graph.layer_outputs, graph.step], feed)[:2]
        values = [first] + [self._session.run([graph.step_values, graph.step], feed)[0] for _ in range(steps - 1)]
        found = {LAYER + name: output for name, output in layers.items()}
        found["values"] = np.array([[getattr(value, name) for name in VALUES] for value in values], np.float64)
        found["gradients"] = np.stack([value.norms for value in values])
        found["variables"] = np.array([each.op.name for each in graph.variables])
        return found


def main():
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
