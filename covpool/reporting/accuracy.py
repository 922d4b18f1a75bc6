"""How much an accuracy says: its confidence interval, the accuracy of guessing, and how often two runs agree."""

import math

from covpool.reporting.runs import Evaluation

#: The normal distribution's 97.5th percentile: intervals are of 95 % confidence.
NORMAL_975 = 1.959963984540054


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """Return Wilson's 95 % confidence interval of a share.

    Solves |p - share| = z sqrt(p (1 - p) / number) for p (E. B. Wilson, 1927). It takes the pictures as independent;
    several pictures of one person are not, so the true interval is somewhat wider.

    Args:
        share: Observed share, from 0 to 1.
        number: How many pictures it was observed on, 1 or more.

    Returns:
        The lower and the upper end, from 0 to 1.
    """
    z2 = NORMAL_975**2
    middle = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = math.sqrt(max(0.0, share * (1 - share)) * z2 / number + (z2 / (2 * number)) ** 2) / (1 + z2 / number)
    return max(0.0, middle - half), min(1.0, middle + half)


def chance_level(scores: dict) -> float:
    """Return the accuracy of always answering the most frequent class, from the confusion table of `scores.json`."""
    rows = [sum(row) for row in scores["confusion"]]
    return max(rows) / sum(rows)


def is_near_chance(scores: dict) -> bool:
    """Return whether an accuracy can't be told from guessing: its interval does not lie above the chance level."""
    return wilson_interval(scores["accuracy"], scores["images"])[0] <= chance_level(scores)


def agreement(first: Evaluation, second: Evaluation) -> float | None:
    """Return the share of pictures for which two evaluations predict the same class; None without common pictures."""
    both = first.predictions.merge(second.predictions, on="source", suffixes=("_first", "_second"))
    return float((both["predicted_first"] == both["predicted_second"]).mean()) if len(both) else None
