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

from covpool import devices, networks, spd
from covpool.config import Network, ParamsError, Spd, build_section, load_params, run_options
from covpool.networks import checkpoints
from covpool.pipeline import artifacts
from covpool.pipeline.arrays import read_array
from covpool.training import input_pipeline

OUTPUTS = ("logits", "probabilities", "embeddings")
MATRICES = ("covariance", "bimap", "reeig", "logeig")


class Scorer:
    """A network with weights, ready to score. Use it as a context.

    Args:
        network: a `config.Network`.
        settings: a `config.Spd`.
        size: height and width of the input in pixels.
        checkpoint: the prefix of its files.
        device: a `devices.Device`.
        num_classes: None: as many as the checkpoint's Logits have.
        batch_size: pictures at once; every shape holds it, because an NPU needs static shapes.
    """

    def __init__(self, network, settings, size, checkpoint, device, num_classes=None, batch_size=32):
        self.size = size
        self.batch_size = batch_size
        graph = tf.Graph()
        # The same numbers, up to rounding, from half of the weights of fc_1: reading them takes most of the time of a
        # single picture.
        halved = network.pooling != "average" and network.vectorise == "full"
        if halved:
            network = dataclasses.replace(network, vectorise="upper")
        num_classes = num_classes or checkpoints.read_shapes(checkpoint).get("Logits/biases", (1,))[0]
        with graph.as_default(), tf.device(device.place):
            self._images = tf.placeholder(tf.float32, [batch_size, size, size, 3], "inputImage")
            layers = networks.Layers(training=False)
            inputs = input_pipeline.normalise(self._images, network.normalisation)
            self._endpoints = networks.build(inputs, layers, network, settings, num_classes)
            load = checkpoints.LoadOp(tf.global_variables())
            initialise = tf.global_variables_initializer()
            device.keep_float32(spd.operations(graph))
        weights = _read_weights(checkpoint, load.shapes, halved)
        self.outputs = OUTPUTS if "Logits/biases" in weights else OUTPUTS[2:]
        self._session = device.session(graph)
        self._session.run(initialise)
        load(self._session, weights)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session.close()

    def __call__(self, images, matrices=False):
        """Score pictures [n, h, w, 3] in 0..255.

        Returns:
            Float32 arrays by name, see the module; with `matrices` also those of the SPD layers.
        """
        wanted = self.outputs + (MATRICES if matrices else ())
        fetched = {name: self._endpoints[name] for name in wanted if name in self._endpoints}
        return input_pipeline.in_batches(
            lambda batch: self._session.run(fetched, {self._images: batch}),
            input_pipeline.center(images, self.size),
            self.batch_size,
        )


def _read_weights(checkpoint, shapes, halved):
    """The weights of a checkpoint for a network with these shapes; `halved`: its fc_1 reads half of a matrix."""
    name = next(each for each in shapes if each.endswith("fc_1/weights"))
    if not halved:
        return checkpoints.read_weights(checkpoint, shapes)
    whole = (networks.BIMAP_SIZE**2, shapes[name][1])
    weights = checkpoints.read_weights(checkpoint, dict(shapes, **{name: whole}))
    return dict(weights, **{name: spd.upper_weights(weights[name])})


def open_model(folder, checkpoint, device, batch_size):
    """The Scorer of a model that was trained here.

    Args:
        folder: `models/<run>`.
        checkpoint: best or last.
        device: a `devices.Device`.
        batch_size: pictures at once.
    """
    folder = Path(folder)
    model = read_model(folder)
    network = build_section("network", model["network"], folder / "model.json")
    settings = build_section("spd", model["spd"], folder / "model.json")
    classes = len(model["classes"])
    return Scorer(network, settings, model["image_size"], folder / checkpoint, device, classes, batch_size)


def read_model(folder):
    """The content of a model's `model.json`; ArtifactError if it is not one."""
    path = Path(folder) / "model.json"
    model = artifacts.read_json(path)
    wanted = {"classes", "network", "spd", "image_size", "checkpoints"}
    if not isinstance(model, dict) or not wanted <= set(model):
        raise artifacts.ArtifactError(
            f"{path} does not describe a model: expected the keys {', '.join(sorted(wanted))}."
        )
    return model


def original_settings(model_def, checkpoint, normalisation):
    """The `config.Network` and `config.Spd` of a checkpoint of the original; its shapes give the embedding size."""
    shape = checkpoints.read_shapes(checkpoint).get("Bottleneck/weights", (0, networks.EMBEDDING_SIZE))
    network = Network(
        model_def=model_def,
        pooling="covariance",
        embedding_size=shape[1],
        vectorise="full",
        normalisation=normalisation,
        batch_norm_decay=networks.BATCH_NORM_DECAY,
    )
    return network, Spd(method="eigh", ridge=spd.RIDGE, epsilon=spd.REEIG_EPSILON, maximum=spd.REEIG_MAXIMUM)


def read_faces(path: Path) -> np.ndarray:
    """Read pictures to score.

    Args:
        path: a `.npy` file.

    Returns:
        uint8 or float32 [n, h, w, 3], mapped from the disk.

    Raises:
        ArtifactError: the file is not such an array, or holds values that are not finite.
    """
    images = read_array(path)
    native = images.dtype.newbyteorder("=")
    if images.ndim != 4 or images.shape[3] != 3 or native not in (np.uint8, np.float32):
        raise artifacts.ArtifactError(
            f"{path}: expected uint8 or float32 [n, h, w, 3], got {images.dtype} {list(images.shape)}."
        )
    images = images.astype(native, copy=False)
    if native == np.float32 and len(images):
        low, high = float(images.min()), float(images.max())
        # Both are nan if a value is nan, and one is infinite if a value is.
        if not np.isfinite([low, high]).all():
            raise artifacts.ArtifactError(f"{path}: holds values that are not finite.")
        if low >= 0 and high <= 1:
            print(f"{path}: all values lie in 0..1; the network was trained on 0..255.", file=sys.stderr)
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
    parser.add_argument("--image-size", type=int, help="with --checkpoint: side of the input; default 100")
    parser.add_argument("--device", help="a name from the device_options of params.yaml; default: the CPU")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures at once; default %(default)s")
    options = parser.parse_args(arguments)
    only_with_checkpoint = ("network", "normalisation", "image_size")
    if bool(options.model) == bool(options.checkpoint):
        parser.error("expected either --model, or --checkpoint with --network and --normalisation")
    if options.checkpoint and not (options.network and options.normalisation):
        parser.error("--checkpoint needs --network and --normalisation, which are not in the file")
    for name in only_with_checkpoint if options.model else ():
        if getattr(options, name) is not None:
            parser.error(f"--{name.replace('_', '-')} belongs to --checkpoint; the files of --model have their own")
    for name in ("batch_size", "image_size"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: expected 1 or more, got {getattr(options, name)}")
    try:
        _score(options)
    except (artifacts.ArtifactError, checkpoints.CheckpointError, devices.DeviceError, ParamsError, OSError) as error:
        sys.exit(f"score: {error}")


def _score(options):
    device = _device(options.device)
    images = read_faces(options.faces)
    if options.model:
        scorer = open_model(options.model, options.which, device, options.batch_size)
    else:
        network, settings = original_settings(options.network, options.checkpoint, options.normalisation)
        size = options.image_size or networks.IMAGE_SIZE
        scorer = Scorer(network, settings, size, options.checkpoint, device, batch_size=options.batch_size)
    with scorer:
        found = scorer(images, options.endpoints)
    with artifacts.atomic_file(options.out, "wb") as stream:
        np.savez(stream, **found)
    print(f"{options.out}: {len(images)} pictures, {', '.join(sorted(found))}")


def _device(name):
    if name is None:
        return devices.open_cpu()
    params = load_params()
    return devices.open_device(name, devices.without_loop(run_options(params, name)))


if __name__ == "__main__":
    main()
