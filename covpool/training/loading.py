"""What a run of training reads before its first step: the faces of train and val, and the weights to start from."""

from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from covpool.config import Params
from covpool.networks import checkpoints
from covpool.pipeline import artifacts
from covpool.training import input_pipeline, plan


class Data(NamedTuple):
    """The faces of a run.

    Attributes:
        train: the training split, with the margin that random crops need.
        val: the validation split.
        val_images: uint8 [n, size, size, 3], the middle of val's pictures.
    """

    train: input_pipeline.Faces
    val: input_pipeline.Faces
    val_images: np.ndarray


def load_data(params: Params, root: Path) -> Data:
    """Map the faces of train and val from `data/faces` below `root`.

    Raises:
        ArtifactError: a split is missing, or does not fit the parameters.
    """
    folder, size = root / artifacts.FACES, params.normalise.size
    class_names = params.dataset.classes
    train = input_pipeline.load_faces(folder, "train", class_names, plan.training_side(params))
    val = input_pipeline.load_faces(folder, "val", class_names, size)
    return Data(train, val, input_pipeline.center(val.images, size))


def pretrained_checkpoint(params: Params, root: Path) -> Optional[Path]:
    """The prefix of the checkpoint that the run starts from, or None if it starts from new weights.

    A path that leads nowhere, or to another checkpoint than the one meant, is an error before the graph is built.

    Raises:
        CheckpointError: there is no such checkpoint, or its content has another hash than `train.pretrained_hash`.
    """
    if not params.train.pretrained_model:
        return None
    prefix = root / params.train.pretrained_model
    checkpoints.read_shapes(prefix)
    found, expected = artifacts.checkpoint_hash(prefix), params.train.pretrained_hash
    if found != expected:
        raise checkpoints.CheckpointError(
            f"train.pretrained_hash: expected the hash of {prefix}, {found}, got {expected!r}. If this is the "
            "checkpoint "
            "that you mean, set train.pretrained_hash to its hash: by it DVC knows what the run started from."
        )
    return prefix
