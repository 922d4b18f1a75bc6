"""The number of cores that this process may use."""

import os


def usable_cores(sharers: int = 1) -> int:
    """Return the number of cores that this process may use.

    Args:
        sharers: The number of processes that share the cores, including this one. Each gets an equal part.

    Returns:
        The number of cores, at least 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // sharers)
