"""The pictures of each step, and how each is rotated, shifted and mirrored: numbers only, no TensorFlow.

Pass after pass, all pictures are shuffled, which gives an endless row. Step k takes batch_size pictures from position
k * batch_size of it, so a step's pictures depend only on the seed and the step. Random numbers depend only on the seed,
the pass and the picture. So a resumed run sees the same batches as an uninterrupted one. Several workers share a step:
together they see the batch of one worker with their global batch size. NumPy's `RandomState` is used because its
streams are frozen: all versions of NumPy draw the same numbers.
"""

import collections
from typing import Any

import numpy as np

Batch = collections.namedtuple("Batch", ["indices", "augmentation"])
Batch.__doc__ = """The pictures of a step.

Attributes:
    indices: int32 [b], places in the training split.
    augmentation: float32 [b, 4]: rotation in radians, shift down and right in pixels, mirrored (1) or not (0).
"""

_ORDER, _AUGMENTATION = 0, 1


def crop_margin(params: Any) -> int:
    """Return the largest shift of a training picture in pixels: the margin around a face, or 0 without random crops."""
    return params.normalise.margin if params.train.random_crop else 0


def training_side(params: Any) -> int:
    """Return the smallest side of training pictures in pixels: the network's input and room for the shifts."""
    return params.normalise.size + 2 * crop_margin(params)


def run_plan(params: Any, count: int, workers: int = 1, rank: int = 0) -> "Plan":
    """Make the plan of a run.

    Args:
        params: `config.Params`.
        count: the number of pictures in the training split.
        workers: the number of workers that share each step.
        rank: the worker that the plan is for, from 0.

    Returns:
        The plan.
    """
    train = params.train
    return Plan(
        count=count,
        batch_size=train.batch_size,
        margin=crop_margin(params),
        degrees=train.rotation_degrees if train.random_rotate else 0.0,
        flip=train.random_flip,
        seed=train.seed,
        workers=workers,
        rank=rank,
    )


class Plan:
    """The steps of a training run.

    Args:
        count: the number of pictures in the training split.
        batch_size: pictures per step of one worker.
        margin: the largest shift in pixels, 0 for none.
        degrees: the largest rotation, 0 for none.
        flip: whether to mirror half of the pictures.
        seed: the seed of the order and of the augmentation, in [0, 2^32).
        workers: the number of workers that share each step. Each gets its own consecutive part of the global batch.
        rank: the worker that the plan is for, from 0.

    Raises:
        ValueError: if there are no pictures.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        margin: int,
        degrees: float,
        flip: bool,
        seed: int,
        workers: int = 1,
        rank: int = 0,
    ):
        if count < 1:
            raise ValueError(f"expected at least one picture, got {count}")
        self.count = count
        self.batch_size = batch_size
        self.margin = margin
        self.degrees = degrees
        self.flip = flip
        self.seed = seed
        self.workers = workers
        self.rank = rank
        self._passes = collections.OrderedDict()

    def step(self, number: int) -> Batch:
        """Return the pictures of step `number` (from 0) and their augmentation."""
        positions = (number * self.workers + self.rank) * self.batch_size + np.arange(self.batch_size)
        indices = np.empty(self.batch_size, np.int32)
        augmentation = np.empty((self.batch_size, 4), np.float32)
        for turn in np.unique(positions // self.count):
            here = positions // self.count == turn
            order, table = self._pass(int(turn))
            indices[here] = order[positions[here] % self.count]
            augmentation[here] = table[indices[here]]
        return Batch(indices, augmentation)

    def _pass(self, number):
        """The order of a pass, int32 [count], and the augmentation of each picture in it, float32 [count, 4]."""
        if number not in self._passes:
            order = np.random.RandomState([self.seed, number, _ORDER]).permutation(self.count)
            draw = np.random.RandomState([self.seed, number, _AUGMENTATION]).random_sample((self.count, 4))
            table = np.empty((self.count, 4), np.float32)
            table[:, 0] = np.deg2rad(self.degrees) * (2 * draw[:, 0] - 1)
            table[:, 1:3] = np.floor(draw[:, 1:3] * (2 * self.margin + 1)) - self.margin
            table[:, 3] = (draw[:, 3] < 0.5) & bool(self.flip)
            self._passes[number] = (order.astype(np.int32), table)
            # A step needs only consecutive passes; older ones are not needed any more.
            while len(self._passes) > 2 + self.batch_size // self.count:
                self._passes.popitem(last=False)
        return self._passes[number]
