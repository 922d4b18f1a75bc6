"""Writes networks of every kind with random weights, and what `covpool.export.weights` makes of them; for tests/export.

stages/tf -m tests.tf.export.make_networks FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from covpool import networks
from covpool.config import Network, Spd
from covpool.export import weights
from covpool.networks import checkpoints

#: Name -> model_def, pooling, vectorise, normalisation, method, size, number of classes.
KINDS = {
    "default": ("covpoolnet2", "covariance", "full", "per_image", "eigh", 100, 7),
    "model1": ("covpoolnet", "covariance", "upper", "none", "iterative", 100, 3),
    "small": ("covpoolnet2", "covariance", "full", "per_image", "iterative", 50, 2),
    "gaussian": ("covpoolnet", "gaussian", "full", "per_image", "iterative", 64, 7),
    "gaussian-eigh": ("covpoolnet2", "gaussian", "upper", "none", "eigh", 100, 5),
    "average": ("covpoolnet", "average", "full", "per_image", "eigh", 64, 7),
}
#: One whose checkpoint is in the scope of the authors' released files, beside an optimiser's state.
ORIGINAL = "original"
FACES = 6


def main(folder):
    for name, kind in sorted(KINDS.items()):
        model_def, pooling, vectorise, normalisation, method, size, count = kind
        network = Network(model_def, pooling, 32, vectorise, normalisation, 0.9)
        settings = Spd(method, 1e-4, 1e-4, 1e4)
        place = folder / name
        place.mkdir(parents=True)
        rng = np.random.RandomState(len(name))
        coarse = rng.randint(0, 256, [FACES, 10, 10, 3]).astype(np.uint8)
        faces = coarse.repeat(-(-size // 10), 1).repeat(-(-size // 10), 2)[:, :size, :size]
        np.save(str(place / "faces.npy"), faces)
        write_checkpoint(str(place / "best"), network, settings, size, count, rng)
        model = {
            "classes": [f"c{number}" for number in range(count)],
            "network": network.__dict__,
            "spd": settings.__dict__,
            "image_size": size,
            "checkpoints": {},
        }
        (place / "model.json").write_text(json.dumps(model))
        weights.main(["--model", str(place), "--faces", str(place / "faces.npy"), "--out", str(place)])
    place = folder / ORIGINAL
    place.mkdir()
    copy_original(str(folder / "default" / "best"), str(place / "model.ckpt-95"))
    arguments = [
        "--checkpoint",
        str(place / "model.ckpt-95"),
        "--network",
        "covpoolnet2",
        "--normalisation",
        "per_image",
    ]
    weights.main(arguments + ["--faces", str(folder / "default" / "faces.npy"), "--out", str(place)])


def write_checkpoint(prefix, network, settings, size, count, rng):
    """A checkpoint with random weights whose statistics fit them roughly, so that no layer explodes."""
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.zeros([1, size, size, 3])
        networks.build(images, networks.Layers(training=False, seed=rng.randint(1000)), network, settings, count)
        session.run(tf.global_variables_initializer())
        values = {}
        for variable in tf.global_variables():
            value = session.run(variable)
            name = variable.op.name
            if name.endswith("/weights"):
                fan_in = np.prod(value.shape[:-1])
                value = rng.randn(*value.shape) * np.sqrt(2.0 / fan_in)
                if "Conv2d_1/" in name and network.normalisation == "none":
                    # Their deviation is about 70 grey levels.
                    value /= 70
            elif name.endswith("moving_variance"):
                value = rng.uniform(0.5, 1.5, value.shape)
            elif name.endswith(("beta", "biases", "moving_mean")):
                value = 0.1 * rng.randn(*value.shape)
            values[name] = tf.constant(value.astype(np.float32))
        checkpoints.WriteOp(values)(session, prefix)


def copy_original(source, prefix):
    reader = tf.train.load_checkpoint(source)
    with tf.Graph().as_default(), tf.Session() as session:
        values = {}
        for name in reader.get_variable_to_shape_map():
            values[name.replace("CovPool2/", "DLP-CNN/")] = tf.constant(reader.get_tensor(name))
        values["DLP-CNN/fc_1/weights/Adam"] = tf.zeros([2])
        values["global_step"] = tf.constant(9025)
        checkpoints.WriteOp(values)(session, prefix)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
