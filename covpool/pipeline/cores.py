"""How many cores this process may use."""

import os


def usable_cores(sharers: int = 1) -> int:
    """Return the number of cores that this process may run on, one at least.

    Args:
        sharers: processes that share the cores, this one included; each gets an equal part.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // sharers)
