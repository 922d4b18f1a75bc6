"""Errors of the workers of a run."""


class WorkersError(RuntimeError):
    """This process was not started as one of the configured number of workers.

    The message says what the environment has instead.
    """


class LostWorkers(RuntimeError):
    """Another worker of this run has ended or can't be reached, so the workers can no longer exchange data."""
