"""Losses, gradients and weights that are not finite numbers end a run, with a message that says where and what to do.

They are judged on the host, from what a step fetched: the NPU has no operation for it.
"""

import math
from typing import Callable, List, NamedTuple

import numpy as np

#: Consecutive steps whose gradients may overflow under loss scaling: as many as take the default scale down to 1.
MOST_OVERFLOWS = 32


class NotFinite(RuntimeError):
    """A loss, a gradient or a measure is not a finite number."""


class Place(NamedTuple):
    """Where a run is, for messages: its epoch (from 1), its first and last step (from 1), and the learning rate."""

    epoch: int
    first: int
    last: int
    rate: float


def bad_names(names: List[str], norms) -> str:
    """Those of `names` whose norm is not finite, as a list in words; "" if all are finite."""
    return ", ".join(name for name, norm in zip(names, norms) if not math.isfinite(norm))


def check_outputs(logits: np.ndarray, epoch: int, weights: Callable[[], str], last_good: str) -> None:
    """Raise NotFinite if the network's outputs on val are not finite.

    Args:
        logits: the outputs, or nan where the matrices had no eigenvalues.
        epoch: from 1.
        weights: gives the names of the weights that are not finite.
        last_good: a sentence about the last state that was saved.
    """
    if not np.isfinite(logits).all():
        raise NotFinite(
            f"validation after epoch {epoch}: the network's outputs are not finite (they use the moving averages of "
            "weights "
            f"and statistics). Weights that are not finite: {weights() or 'none'}. {last_good} Lower the learning rate "
            "(train.learning_rate, train.schedule), or network.batch_norm_decay."
        )


def step_error(what: str, more: str, place: Place, last_good: str) -> NotFinite:
    """The error of a step: what is not finite, where, and what to do."""
    # Of a loop on the device only the last step is seen.
    where = f"step {place.first}" if place.first == place.last else f"one of the steps {place.first} to {place.last}"
    return NotFinite(
        f"{where} (epoch {place.epoch}): {what}, and {more}, at learning rate {place.rate:g}. {last_good} Lower the "
        "learning rate (train.learning_rate, train.schedule)."
    )
