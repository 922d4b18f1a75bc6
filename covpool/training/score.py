"""Scoring faces with a trained network, ours or one of the original's checkpoints.

    stages/tf -m covpool.training.score --model models/cpu --faces faces.npy --out scores.npz
    stages/tf -m covpool.training.score --network covpoolnet2 --checkpoint PREFIX --normalisation none \\
        --faces faces.npy --out scores.npz --endpoints

`faces.npy` is uint8 or float32 [n, h, w, 3], RGB, in 0..255, with any n. Pictures larger than the network's input are
cropped to their centre. `scores.npz` holds float32 arrays:

- `logits` and `probabilities` [n, classes], if the checkpoint has the layer Logits;
- `embeddings` [n, d], the output of the layer Bottleneck, not normalised;
- with --endpoints the matrices `covariance` [n, 256, 256] and `bimap`, `reeig` and `logeig` [n, 128, 128].
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple, Union

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
        checkpoint: the prefix of the checkpoint's files.
        device: the device to score on.
        num_classes: the number of classes, or None for the number in the checkpoint's layer Logits.
        batch_size: pictures per batch. It is fixed in the graph, because an NPU needs static shapes.

    Raises:
        CheckpointError: the checkpoint can't be read or does not fit the network.
    """

    def __init__(
        self,
        network: Network,
        settings: Spd,
        size: int,
        checkpoint: Union[str, Path],
        device: devices.Device,
        num_classes: Optional[int] = None,
        batch_size: int = 32,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        graph = tf.Graph()
        # Half of the weights of fc_1 give the same result, up to rounding. Reading the weights takes most of the time
        # of a single picture.
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

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *_: Any) -> None:
        self._session.close()

    def __call__(self, images: np.ndarray, matrices: bool = False) -> Dict[str, np.ndarray]:
        """Score pictures.

        Args:
            images: uint8 or float32 [n, h, w, 3], RGB, in 0..255.
            matrices: True to return the matrices of the SPD layers as well.

        Returns:
            float32 arrays by name, see the module.
        """
        wanted = self.outputs + (MATRICES if matrices else ())
        fetched = {name: self._endpoints[name] for name in wanted if name in self._endpoints}
        return input_pipeline.in_batches(
            lambda batch: self._session.run(fetched, {self._images: batch}),
            input_pipeline.center(images, self.size),
            self.batch_size,
        )


def _read_weights(checkpoint, shapes, halved):
    """Read the weights for a network with these shapes. If `halved`, its fc_1 reads the upper half of each matrix."""
    name = next(each for each in shapes if each.endswith("fc_1/weights"))
    if not halved:
        return checkpoints.read_weights(checkpoint, shapes)
    whole = (networks.BIMAP_SIZE**2, shapes[name][1])
    weights = checkpoints.read_weights(checkpoint, dict(shapes, **{name: whole}))
    return dict(weights, **{name: spd.upper_weights(weights[name])})


def open_model(folder: Union[str, Path], checkpoint: str, device: devices.Device, batch_size: int) -> Scorer:
    """Open a model that this project trained.

    Args:
        folder: the model's folder, `models/<run>`.
        checkpoint: `best` or `last`.
        device: the device to score on.
        batch_size: pictures per batch.

    Returns:
        The scorer.

    Raises:
        ArtifactError: `model.json` can't be read.
        CheckpointError: the checkpoint can't be read or does not fit the network.
        ParamsError: `model.json` holds settings that are not valid.
    """
    folder = Path(folder)
    model = read_model(folder)
    network = build_section("network", model["network"], folder / "model.json")
    settings = build_section("spd", model["spd"], folder / "model.json")
    classes = len(model["classes"])
    return Scorer(network, settings, model["image_size"], folder / checkpoint, device, classes, batch_size)


def read_model(folder: Union[str, Path]) -> Dict[str, Any]:
    """Read a model's `model.json`.

    Args:
        folder: the model's folder, `models/<run>`.

    Returns:
        The content of the file.

    Raises:
        ArtifactError: the file can't be read or does not describe a model.
    """
    path = Path(folder) / "model.json"
    model = artifacts.read_json(path)
    wanted = {"classes", "network", "spd", "image_size", "checkpoints"}
    if not isinstance(model, dict) or not wanted <= set(model):
        raise artifacts.ArtifactError(
            f"{path} does not describe a model: expected the keys {', '.join(sorted(wanted))}."
        )
    return model


def original_settings(model_def: str, checkpoint: Union[str, Path], normalisation: str) -> Tuple[Network, Spd]:
    """Build the settings of a checkpoint of the original code.

    Args:
        model_def: the name of the network.
        checkpoint: the prefix of the checkpoint's files. Its shapes give the embedding size.
        normalisation: of the input, `per_image` or `none`.

    Returns:
        The settings of the network and of its SPD layers.

    Raises:
        CheckpointError: the checkpoint can't be read.
    """
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


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Score the faces that the command line names, and write the .npz.

    Args:
        arguments: the command line, or None for that of this process.

    Raises:
        SystemExit: the arguments, the faces, the model or the device can't be used.
    """
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
