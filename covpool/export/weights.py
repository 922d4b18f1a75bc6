"""The inference weights of a checkpoint as plain arrays, and TensorFlow's own scores to compare with.

    stages/tf -m covpool.export.weights --model models/cpu --faces data/faces/val.npy --out FOLDER
    stages/tf -m covpool.export.weights --network covpoolnet2 --checkpoint PREFIX --normalisation none --out FOLDER

This is the part of the export that runs under TensorFlow (Python 3.7). FOLDER gets `weights.npz` (below),
`network.json` (how the arrays are put together) and, with --faces, `scores.npz` with `logits`, `probabilities`,
`embeddings` and the matrices `bimap` and `logeig` of each face.

`weights.npz` holds, for each convolution and fully connected layer, `<layer>/kernel` and `<layer>/bias` with the batch
normalisation folded into them; `orth_weight0`; `Logits/kernel` and `Logits/bias`. The kernel of fc_1 is on the upper
triangle of the logarithm: an entry of a symmetric matrix meets the sum of the weights of its two places.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from covpool import devices, networks, spd
from covpool.config import ParamsError, as_plain, build_section
from covpool.networks import checkpoints
from covpool.networks.normalisation import EPSILON
from covpool.pipeline import artifacts
from covpool.training import score

CONVOLUTIONS = ("Conv2d_1", "Conv2d_2", "Conv2d_3", "Conv2d_4", "Conv2d_5", "Conv2dfo_6")
#: Layers after which the maxima of 2x2 squares are taken.
POOLED = ("Conv2d_1", "Conv2d_2", "Conv2d_4")
#: Bounds of what the logarithm of an exported network resolves: float32 allows no less, and more is never slower.
LOWEST_SHARE, HIGHEST_SHARE = 1e-6, 1e-2


def fold(kernel, beta, mean, variance):
    """One kernel and bias that compute a layer without bias and its batch normalisation.

    gamma is 1: y = (x K - mean) / sqrt(variance + epsilon) + beta.

    Args:
        kernel: [..., c].
        beta, mean, variance: [c].

    Returns:
        Kernel [..., c] and bias [c], float32.
    """
    slope = 1.0 / np.sqrt(variance.astype(np.float64) + EPSILON)
    return (kernel * slope).astype(np.float32), (beta - mean * slope).astype(np.float32)


def folded(weights, network):
    """The arrays of `weights.npz` from a checkpoint's weights.

    Args:
        weights: {name below the network's scope: array}.
        network: `config.Network`.
    """
    layers = CONVOLUTIONS + (("fc_1", "fc_2") if network.model_def == "covpoolnet" else ("fc_1",)) + ("Bottleneck",)
    arrays = {}
    for layer in layers:
        kernel = weights[layer + "/weights"]
        if layer == "fc_1" and network.pooling != "average":
            kernel = _on_entries(kernel, network.vectorise)
        statistics = [weights[f"{layer}/BatchNorm/{name}"] for name in ("beta", "moving_mean", "moving_variance")]
        arrays[layer + "/kernel"], arrays[layer + "/bias"] = fold(kernel, *statistics)
    arrays["Logits/kernel"], arrays["Logits/bias"] = weights["Logits/weights"], weights["Logits/biases"]
    if network.pooling != "average":
        arrays["orth_weight0"] = weights[f"{networks.POOLED}/{networks.BIMAP_WEIGHT}"]
    return arrays


def _on_entries(kernel, vectorise):
    """The kernel [n (n + 1) / 2, m] that the upper triangle's entries meet as they are, without a factor sqrt 2."""
    upper = spd.upper_weights(kernel) if vectorise == "full" else kernel
    rows, columns = np.triu_indices(networks.BIMAP_SIZE)
    return upper * np.where(rows == columns, 1.0, np.sqrt(2.0))[:, np.newaxis]


def describe(network, settings, size, class_count, weights):
    """How the arrays are put together: the content of `network.json`."""
    content = {
        "network": as_plain(network),
        "spd": as_plain(settings),
        "image_size": size,
        "num_classes": class_count,
        "convolutions": [[name, name in POOLED] for name in CONVOLUTIONS],
        "parameters": int(sum(np.size(value) for value in weights.values())),
    }
    if network.pooling != "average":
        lowest = networks.lowest_share(network.pooling, settings.ridge)
        if settings.method == "eigh":
            lowest = min(max(lowest, LOWEST_SHARE), HIGHEST_SHARE)
        plan = spd.logarithm_plan(lowest)
        content["logarithm"] = {
            "lowest": lowest,
            "width": plan.width,
            "steps": [[list(factor), list(following)] for factor, following in plan.steps],
            "remainder": list(plan.remainder),
        }
    return content


def _below_scope(weights):
    """Weights by their names below the network's scope."""
    scopes = tuple(scope + "/" for scope in networks.SCOPES.values())
    return {name.split("/", 1)[1] if name.startswith(scopes) else name: value for name, value in weights.items()}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="stages/tf -m covpool.export.weights", description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="folder of a model that was trained here, such as models/cpu")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="of --model's two checkpoints")
    parser.add_argument("--network", choices=sorted(networks.SCOPES), help="with --checkpoint: which network")
    parser.add_argument("--checkpoint", help="prefix of a checkpoint's files, the original's or ours")
    parser.add_argument("--normalisation", choices=("per_image", "none"), help="of the input; with --checkpoint")
    parser.add_argument("--image-size", type=int, help="with --checkpoint: side of the input; default 100")
    parser.add_argument("--faces", type=Path, help=".npy of faces to score, uint8 [n, h, w, 3]")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(arguments)
    if bool(options.model) == bool(options.checkpoint):
        parser.error("expected either --model, or --checkpoint with --network and --normalisation")
    if options.checkpoint and not (options.network and options.normalisation):
        parser.error("--checkpoint needs --network and --normalisation: the file does not say them")
    try:
        _write(options)
    except (artifacts.ArtifactError, checkpoints.CheckpointError, devices.DeviceError, ParamsError, OSError) as error:
        sys.exit(f"export: {error}")


def _write(options):
    if options.model:
        model = score.read_model(options.model)
        network = build_section("network", model["network"], options.model / "model.json")
        settings = build_section("spd", model["spd"], options.model / "model.json")
        size, checkpoint = model["image_size"], str(options.model / options.which)
    else:
        network, settings = score.original_settings(options.network, options.checkpoint, options.normalisation)
        size, checkpoint = options.image_size or networks.IMAGE_SIZE, options.checkpoint
    shapes = checkpoints.read_shapes(checkpoint)
    if "Logits/biases" not in shapes:
        raise checkpoints.CheckpointError(
            f"the checkpoint {checkpoint} has no Logits: expected a network that was trained to tell classes apart; "
            "train it on your classes first (train.pretrained_model)"
        )
    class_count = shapes["Logits/biases"][0]
    scope = networks.SCOPES[network.model_def]
    own = {name if name.startswith(checkpoints.LOGITS) else f"{scope}/{name}": shape for name, shape in shapes.items()}
    weights = _below_scope(checkpoints.read_weights(checkpoint, own))
    scorer = score.Scorer(network, settings, size, checkpoint, devices.open_cpu(), class_count)
    with scorer:
        # The network itself says whether the checkpoint fits it; then the arrays are what it computes with.
        if options.faces:
            found = scorer(score.read_faces(options.faces), matrices=True)
            found = {name: value for name, value in found.items() if name not in ("covariance", "reeig")}
            with artifacts.atomic_file(options.out / "scores.npz", "wb") as stream:
                np.savez(stream, **found)
    with artifacts.atomic_file(options.out / "weights.npz", "wb") as stream:
        np.savez(stream, **folded(weights, network))
    artifacts.write_json(options.out / "network.json", describe(network, settings, size, class_count, weights))


if __name__ == "__main__":
    main()
