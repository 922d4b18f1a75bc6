"""The learning rate of an epoch."""


def learning_rate(epoch, train):
    """The rate of `epoch` (from 0).

    Positive `train.learning_rate`: that, times `learning_rate_decay_factor` each `learning_rate_decay_epochs` epochs.
    Negative: the pair of `train.schedule` whose first epoch was reached last.
    """
    if train.learning_rate >= 0:
        return train.learning_rate * train.learning_rate_decay_factor ** (epoch // train.learning_rate_decay_epochs)
    return [rate for first, rate in train.schedule if first <= epoch][-1]
