"""Which pictures a step sees, and how each is shifted, turned and mirrored: numbers only, no TensorFlow.

The pictures are shuffled as a whole, pass after pass; step k takes positions k * batch_size and on of that endless
row, so a step's pictures depend on the seed and the step alone. So do their random numbers, which are keyed by seed,
pass and picture. A run that is taken up again therefore sees what it would have seen. Several workers share a step:
together they see what one worker with their global batch would. NumPy's `RandomState` is used because its streams are
frozen: all versions of NumPy draw the same.
"""

import collections

import numpy as np

#: What a picture's augmentation is: turned by an angle (radians), shifted (pixels down, right), mirrored (0 or 1).
Batch = collections.namedtuple("Batch", ["indices", "augmentation"])

_ORDER, _AUGMENTATION = 0, 1


def crop_margin(params) -> int:
    """The largest shift of a training picture in pixels: what is kept around a face, if random crops use it."""
    return params.normalise.margin if params.train.random_crop else 0


def training_side(params) -> int:
    """The side in pixels that training pictures have at least: the network's input and room for the shifts."""
    return params.normalise.size + 2 * crop_margin(params)


def run_plan(params, count, workers=1, rank=0):
    """The Plan of a run with these `config.Params` on `count` training pictures; workers, rank: see there."""
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

    count: pictures in the training split.
    batch_size: pictures a step, of one worker.
    margin: the largest shift in pixels, 0 for none.
    degrees: the largest turn, 0 for none.
    flip: mirror half of the pictures.
    seed: of all of it.
    workers, rank: how many share each step, and which of them this plan is for: the global batch's pictures are dealt
    out in one piece each, none twice.
    """

    def __init__(self, count, batch_size, margin, degrees, flip, seed, workers=1, rank=0):
        if count < 1:
            raise ValueError(f"a plan needs at least one picture, given {count}")
        self.count = count
        self.batch_size = batch_size
        self.margin = margin
        self.degrees = degrees
        self.flip = flip
        self.seed = seed
        self.workers = workers
        self.rank = rank
        self._passes = collections.OrderedDict()

    def step(self, number):
        """The pictures of step `number` (from 0) and their augmentation: int32 [b], float32 [b, 4]."""
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
        """One pass over the data: its order, and a row of augmentation for each picture."""
        if number not in self._passes:
            order = np.random.RandomState([self.seed, number, _ORDER]).permutation(self.count)
            draw = np.random.RandomState([self.seed, number, _AUGMENTATION]).random_sample((self.count, 4))
            table = np.empty((self.count, 4), np.float32)
            table[:, 0] = np.deg2rad(self.degrees) * (2 * draw[:, 0] - 1)
            table[:, 1:3] = np.floor(draw[:, 1:3] * (2 * self.margin + 1)) - self.margin
            table[:, 3] = (draw[:, 3] < 0.5) & bool(self.flip)
            self._passes[number] = (order.astype(np.int32), table)
            # A step touches at most the passes that lie beside each other; the older ones are done with.
            while len(self._passes) > 2 + self.batch_size // self.count:
                self._passes.popitem(last=False)
        return self._passes[number]
