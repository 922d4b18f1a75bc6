"""Networks with random weights, made without TensorFlow."""

import json

import numpy as np

from covpool.predict.model import FORMAT
from tests.project import ROOT

CLASS_NAMES = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
CHANNELS = (3, 64, 96, 128, 128, 256, 256)
CONVOLUTIONS = [
    ["Conv2d_1", True],
    ["Conv2d_2", True],
    ["Conv2d_3", False],
    ["Conv2d_4", True],
    ["Conv2d_5", False],
    ["Conv2dfo_6", False],
]
#: The polynomials of `covpool.spd.logarithm_plan(1e-4)`; tests/tf/export compares them with what TensorFlow uses.
LOGARITHM = json.loads((ROOT / "tests" / "predict" / "logarithm.json").read_text())


def description(pooling="covariance", model_def="covpoolnet2", normalisation="per_image", size=100, num_classes=7):
    """The content of a `network.json`."""
    return {
        "network": {
            "model_def": model_def,
            "pooling": pooling,
            "embedding_size": 16,
            "vectorise": "full",
            "normalisation": normalisation,
        },
        "spd": {"method": "eigh", "ridge": 1e-4, "epsilon": 1e-4, "maximum": 1e4},
        "image_size": size,
        "num_classes": num_classes,
        "convolutions": CONVOLUTIONS,
        "logarithm": LOGARITHM,
    }


def random_weights(network, seed=0):
    """The arrays of a `weights.npz` for such a network; fc_1 is narrow."""
    rng = np.random.default_rng(seed)
    pooling, weights = network["network"]["pooling"], {}
    for place, (name, _) in enumerate(network["convolutions"]):
        inputs, outputs = CHANNELS[place : place + 2]
        weights[name + "/kernel"] = rng.normal(0, np.sqrt(2 / (9 * inputs)), [3, 3, inputs, outputs])
        weights[name + "/bias"] = rng.normal(0, 0.1, outputs)
    entries = 256 if pooling == "average" else 128 * 129 // 2
    sizes = [("fc_1", entries, 32), ("fc_2", 32, 24), ("Bottleneck", 24, 16), ("Logits", 16, network["num_classes"])]
    if network["network"]["model_def"] == "covpoolnet2":
        sizes = [sizes[0], ("Bottleneck", 32, 16), sizes[3]]
    for name, inputs, outputs in sizes:
        weights[name + "/kernel"] = rng.normal(0, 1 / np.sqrt(inputs), [inputs, outputs])
        weights[name + "/bias"] = rng.normal(0, 0.1, outputs)
    if pooling != "average":
        channels = 257 if pooling == "gaussian" else 256
        weights["orth_weight0"] = np.linalg.qr(rng.normal(size=[channels, 128]))[0]
    return {name: value.astype(np.float32) for name, value in weights.items()}


def metadata(network, detector="mtcnn"):
    """What the file of such a network says about itself."""
    return {
        "format": FORMAT,
        "class_names": CLASS_NAMES[: network["num_classes"]],
        "image_size": network["image_size"],
        "crop": {"detector": detector, "size": network["image_size"], "margin": 6, "min_score": 0.9},
        "network": network["network"],
        "spd": network["spd"],
        "agreement": {},
        "revision": None,
        "data_hash": None,
    }
