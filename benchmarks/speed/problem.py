"""What every side computes: the published setting, the weights and the batch that all begin with, and the agreement.

Weights and gradients travel in `.npz` files under the names of the original's checkpoints, below the network's scope:
`Conv2d_1/weights` [3, 3, 3, 64], `spdpooling1/orth_weight0` [256, 128], `fc_1/weights` [16384, 2000], ...
Numpy only, Python 3.7 syntax: each interpreter reads it.
"""

import numpy as np

from covpool.port import published_setting

#: Parameters of `train` that a single step depends on.
STEP = (
    "train.batch_size",
    "train.optimizer",
    "train.adam",
    "train.weight_decay",
    "train.center_loss_factor",
    "train.center_loss_alfa",
    "train.keep_probability",
    "train.moving_average_decay",
    "train.class_weights",
    "train.log_histograms",
)
#: The setting that the Ascend port published, as changes to params.yaml, with augmentation on, at its first rate. What
#: one step does not depend on is left out.
PUBLISHED = dict(
    {
        key: value
        for key, value in published_setting.PUBLISHED.items()
        if key.split(".")[0] in ("network", "spd", "normalise") or key in STEP
    },
    **{
        "normalise.margin": 6,
        "train.learning_rate": 0.005,
        "train.random_crop": True,
        "train.random_flip": True,
        "train.random_rotate": True,
    },
)
#: The same with nothing at random, for the comparison of losses and gradients.
FIXED = dict(
    PUBLISHED,
    **{
        "train.keep_probability": 1.0,
        "normalise.margin": 0,
        "train.random_crop": False,
        "train.random_flip": False,
        "train.random_rotate": False,
    },
)

CONVOLUTIONS = ("Conv2d_1", "Conv2d_2", "Conv2d_3", "Conv2d_4", "Conv2d_5", "Conv2dfo_6")
POOLED_AFTER = ("Conv2d_1", "Conv2d_2", "Conv2d_4")
BIMAP = "spdpooling1/orth_weight0"
BATCH, SIZE, CLASSES = PUBLISHED["train.batch_size"], PUBLISHED["normalise.size"], 7
RATE, WEIGHT_DECAY, CENTER_FACTOR = (
    PUBLISHED["train." + name] for name in ("learning_rate", "weight_decay", "center_loss_factor")
)
ADAM = PUBLISHED["train.adam"]
BATCH_NORM_DECAY, BATCH_NORM_EPSILON = PUBLISHED["network.batch_norm_decay"], 1e-3
RIDGE, EPSILON, MAXIMUM = (PUBLISHED["spd." + name] for name in ("ridge", "epsilon", "maximum"))

#: A side may be this many times as far from the float64 truth as the textbook graph in float32 is, and by rounding of
#: the loss alone in any case.
SLACK = 3.0
LEAST_ERROR = 2e-5


def synthetic_pictures(count, size, seed=0):
    """uint8 [count, size, size, 3] and int32 [count]: smooth blobs, coarse to fine, so that features vary together."""
    rng = np.random.RandomState(seed)
    pictures = np.zeros((count, size, size, 3), np.float32)
    for cells in (4, 12, 36):
        coarse = rng.uniform(-1, 1, (count, cells, cells, 3)).astype(np.float32)
        pictures += _enlarged(coarse, size)
    pictures = 127.5 + 60 * pictures
    return np.clip(pictures, 0, 255).astype(np.uint8), rng.randint(0, CLASSES, count).astype(np.int32)


def _enlarged(coarse, size):
    """Bilinear enlargement of [n, c, c, 3] to [n, size, size, 3]."""
    cells = coarse.shape[1]
    place = np.linspace(0, cells - 1, size).astype(np.float32)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells, dtype=np.float32)))
    return np.einsum("yi,nijc,xj->nyxc", weights, coarse, weights, optimize=True)


def tangent(w, gradient):
    """The part of a gradient that is tangent to the Stiefel manifold at w; both [n, m], in float64."""
    w, gradient = np.asarray(w, np.float64), np.asarray(gradient, np.float64)
    inner = w.T @ gradient
    return gradient - w @ (inner + inner.T) / 2


def errors(found, truth):
    """Relative errors against the truth: {"loss": ..., "whole gradient": ..., name of a weight: ...}.

    found, truth: dictionaries of arrays; `loss` (cross entropy and center loss) and the gradient of every weight, that
    of BiMap's W projected onto its tangent space. A gradient's error is the norm of the difference over its norm.
    """
    if set(found) != set(truth):
        raise ValueError(f"gradients differ in names: {sorted(set(found) ^ set(truth))}")
    names = sorted(set(truth) - {"loss"})
    whole = [np.concatenate([np.ravel(each[name]) for name in names]) for each in (found, truth)]
    each = {name: _relative(found[name], truth[name]) for name in ["loss"] + names}
    return dict(each, **{"whole gradient": _relative(*whole)})


def _relative(found, truth):
    difference = np.linalg.norm(np.asarray(found, np.float64) - truth)
    return float(difference / np.linalg.norm(np.asarray(truth, np.float64)))


def agrees(found, textbook):
    """Whether a side's errors are those of float32. Both: of `errors`; textbook: those of the textbook graph."""
    return all(found[name] <= max(SLACK * textbook[name], LEAST_ERROR) for name in textbook)
