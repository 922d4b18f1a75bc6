"""The learning rate of an epoch."""

import math

from covpool.config.schedules import schedule_pairs

#: train.scale_learning_rate -> the factor for so many workers, whose global batch is so much larger. `linear`: P. Goyal
#: et al.: Accurate, Large Minibatch SGD (arXiv 1706.02677); `sqrt`: A. Krizhevsky: One Weird Trick (arXiv 1404.5997).
SCALES = {"none": lambda workers: 1, "linear": lambda workers: workers, "sqrt": math.sqrt}


def learning_rate(epoch, train, workers=1):
    """The rate of `epoch` (from 0): one worker's, times what `train.scale_learning_rate` makes of their number.

    Positive `train.learning_rate`: that, times `learning_rate_decay_factor` each `learning_rate_decay_epochs` epochs.
    Negative: the pair of `train.schedule` whose first epoch was reached last.
    """
    return _rate(epoch, train) * SCALES[train.scale_learning_rate](workers)


def _rate(epoch, train):
    if train.learning_rate >= 0:
        return train.learning_rate * train.learning_rate_decay_factor ** (epoch // train.learning_rate_decay_epochs)
    return [rate for first, rate in schedule_pairs(train.schedule) if first <= epoch][-1]
