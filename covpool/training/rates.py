"""The learning rate of an epoch."""

import math
from typing import Any

from covpool.config.schedules import schedule_pairs

#: train.scale_learning_rate -> the factor as a function of the number of workers, whose global batch is larger by this
#: number. `linear`: P. Goyal et al.: Accurate, Large Minibatch SGD (arXiv 1706.02677); `sqrt`: A. Krizhevsky: One Weird
#: Trick (arXiv 1404.5997).
SCALES = {"none": lambda workers: 1, "linear": lambda workers: workers, "sqrt": math.sqrt}


def learning_rate(epoch: int, train: Any, workers: int = 1) -> float:
    """Compute the learning rate of an epoch.

    If `train.learning_rate` is 0 or more, the rate of one worker is

        learning_rate * learning_rate_decay_factor ^ floor(epoch / learning_rate_decay_epochs),

    else it is that of the last pair of `train.schedule` whose first epoch is not after `epoch`. It is multiplied by the
    factor of `train.scale_learning_rate` for the number of workers.

    Args:
        epoch: from 0.
        train: the section `train` of the parameters.
        workers: the number of workers that train together.

    Returns:
        The rate.
    """
    return _rate(epoch, train) * SCALES[train.scale_learning_rate](workers)


def _rate(epoch, train):
    """The rate of one worker."""
    if train.learning_rate >= 0:
        return train.learning_rate * train.learning_rate_decay_factor ** (epoch // train.learning_rate_decay_epochs)
    return [rate for first, rate in schedule_pairs(train.schedule) if first <= epoch][-1]
