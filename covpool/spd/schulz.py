"""Scaled Newton-Schulz steps: they move values in (0, 1] to 1 by products and sums only.

A step maps s to a s (1 - r s^2), with a = 3/2 sqrt(3 r) so that its maximum is 1. r = 1/3 is the classical step
(3 s - s^3) / 2. With a larger r, small values grow faster; the best one for values in [lowest, 1] is 1 / (1 + lowest +
lowest^2), which maps both ends to the same image (Chen and Chow, A Stable Scaling of Newton-Schulz for Improving the
Sign Function Computation of a Hermitian Matrix, Argonne ANL/MCS-P5059-0114, 2014).
"""

import math
from typing import List, Tuple

from covpool.spd.constants import SCHULZ_CAP


def scaled_steps(lowest: float, target: float) -> Tuple[List[Tuple[float, float]], float]:
    """Choose the steps that map [lowest, 1] into [target, 1].

    Args:
        lowest: the smallest value before the steps, 0 < lowest <= 1.
        target: the smallest value allowed after them, target < 1.

    Returns:
        The steps [(a, r), ...] in their order, and the smallest value after them.
    """
    steps = []
    while lowest < target:
        r = min(SCHULZ_CAP, 1 / (1 + lowest + lowest**2))
        a = 1.5 * math.sqrt(3 * r)
        steps.append((a, r))
        lowest = min(a * lowest * (1 - r * lowest**2), a * (1 - r))
    return steps, lowest
