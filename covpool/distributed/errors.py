"""What can be wrong with the workers of a run."""


class WorkersError(RuntimeError):
    """This process was not started as one of so many workers; the message says what its environment has instead."""


class LostWorkers(RuntimeError):
    """Another worker of this run has ended or can't be reached: nothing can be exchanged any more."""
