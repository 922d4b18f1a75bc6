"""Scoring faces with a trained network, ours or one of the original's checkpoints.

    stages/tf -m covpool.training.score --model models/cpu --faces faces.npy --out scores.npz
    stages/tf -m covpool.training.score --network covpoolnet2 --checkpoint PREFIX --normalisation none \\
        --faces faces.npy --out scores.npz --endpoints

`faces.npy` is uint8 or float32 [n, h, w, 3] in 0..255, RGB, any n; of pictures larger than the network's input the
middle is taken. `scores.npz` holds float32 `logits`, `probabilities` [n, classes] (where the checkpoint has Logits) and
`embeddings` [n, d], the Bottleneck's output as it is; with --endpoints also `covariance`, `bimap`, `reeig` and
`logeig`, the matrices on the way, [n, 256, 256] and [n, 128, 128].
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from covpool import artifacts, devices, networks
from covpool.networks import checkpoints
from covpool.params import ParamsError, build_section, load_params
from covpool.training import pictures

OUTPUTS = ("logits", "probabilities", "embeddings")
MATRICES = ("covariance", "bimap", "reeig", "logeig")


class Scorer:
    """A network with weights, ready to score. Use as a context.

    network: `params.Network`; settings: `params.Spd`; classes: their number, taken from the checkpoint's Logits if
    None; size: of the input in pixels; checkpoint: the prefix of its files; device: a `devices.Device`.
    """

    def __init__(self, network, settings, size, checkpoint, device, classes=None):
        self.size = size
        graph = tf.Graph()
        classes = classes or _classes_of(checkpoint)
        with graph.as_default(), tf.device(device.place):
            self._images = tf.placeholder(tf.float32, [None, size, size, 3], "inputImage")
            layers = networks.Layers(training=False, batch_norm_decay=network.batch_norm_decay)
            inputs = pictures.normalise(self._images, network.normalisation)
            self._endpoints = networks.build(inputs, layers, network, settings, classes or 1)
            load = checkpoints.LoadOp(tf.global_variables())
            initialise = tf.global_variables_initializer()
        weights = checkpoints.read_weights(checkpoint, load.shapes)
        self.outputs = OUTPUTS if any(name.startswith(checkpoints.LOGITS) for name in weights) else OUTPUTS[2:]
        self._session = device.session(graph)
        self._session.run(initialise)
        load(self._session, weights)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session.close()

    def __call__(self, images, batch_size=32, matrices=False):
        """Score pictures [n, h, w, 3] in 0..255: a dictionary of float32 arrays, see the module."""
        wanted = self.outputs + (MATRICES if matrices else ())
        fetched = {name: self._endpoints[name] for name in wanted if name in self._endpoints}
        return pictures.in_batches(
            lambda batch: self._session.run(fetched, {self._images: batch}),
            pictures.center(images, self.size),
            batch_size,
        )


def _classes_of(checkpoint):
    """The number of classes that a checkpoint's Logits have; None without them, or where there is no checkpoint."""
    try:
        return tf.train.load_checkpoint(str(checkpoint)).get_variable_to_shape_map()[checkpoints.LOGITS + "biases"][0]
    except Exception:  # `read_weights` tells what is wrong
        return None


def open_model(folder, checkpoint, device):
    """The Scorer of a model that we trained, `models/<run>`, and its model.json; checkpoint: best or last."""
    folder = Path(folder)
    model = artifacts.read_json(folder / "model.json")
    network = build_section("network", model["network"], folder / "model.json")
    settings = build_section("spd", model["spd"], folder / "model.json")
    return Scorer(network, settings, model["image_size"], folder / checkpoint, device, len(model["classes"])), model


def read_faces(path):
    """A picture array from a file; ArtifactError where it is none."""
    try:
        images = np.load(str(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise artifacts.ArtifactError("{}: no NumPy array: {}".format(path, error)) from None
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype not in (np.uint8, np.float32) or not len(images):
        raise artifacts.ArtifactError(
            "{}: wanted uint8 or float32 [n, h, w, 3] with n from 1, it is {} {}".format(
                path, images.dtype, list(images.shape)
            )
        )
    return images


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="stages/tf -m covpool.training.score", description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="folder of a model that was trained here, such as models/cpu")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="of --model's two checkpoints")
    parser.add_argument("--network", choices=sorted(networks.SCOPES), help="with --checkpoint: which network")
    parser.add_argument("--checkpoint", help="prefix of a checkpoint's files, the original's or ours")
    parser.add_argument("--normalisation", choices=("per_image", "none"), help="of the input; with --checkpoint")
    parser.add_argument("--faces", type=Path, required=True, help=".npy, uint8 or float32 [n, h, w, 3], 0..255, RGB")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--endpoints", action="store_true", help="also the matrices of the SPD layers")
    parser.add_argument("--device", default=None, help="a name from params.yaml's device_options; default: its first")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures at once; default %(default)s")
    options = parser.parse_args(arguments)
    if bool(options.model) == bool(options.checkpoint):
        parser.error("wanted either --model, or --checkpoint with --network and --normalisation")
    if options.checkpoint and not (options.network and options.normalisation):
        parser.error("--checkpoint wants --network and --normalisation, which the file does not tell")
    if options.batch_size < 1:
        parser.error("--batch-size is {}: wanted 1 or more".format(options.batch_size))
    try:
        return _score(options)
    except (artifacts.ArtifactError, checkpoints.CheckpointError, devices.DeviceError, ParamsError, ValueError) as error:
        sys.exit("score: {}".format(error))


def _score(options):
    params = load_params()
    name = options.device or params.devices[0]
    if name not in params.device_options:
        raise ParamsError("--device {!r}: device_options has {}".format(name, ", ".join(params.device_options)))
    device = devices.open_device(name, params.device_options[name])
    images = read_faces(options.faces)
    if options.model:
        scorer, _ = open_model(options.model, options.which, device)
    else:
        network = dataclasses.replace(
            params.network, model_def=options.network, normalisation=options.normalisation
        )
        scorer = Scorer(network, params.spd, params.normalise.size, options.checkpoint, device)
    with scorer:
        found = scorer(images, options.batch_size, options.endpoints)
    with artifacts.atomic_file(options.out, "wb") as stream:
        np.savez(stream, **found)
    print("{}: {} pictures, {}".format(options.out, len(images), ", ".join(sorted(found))))


if __name__ == "__main__":
    main()
