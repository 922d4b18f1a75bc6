"""Types of the functions through which a fetch reports to its caller."""

from collections.abc import Callable

#: Is called with one line of text on each thing that was skipped or decided.
Say = Callable[[str], None]
#: Is called with what is done and the total, in pictures or bytes; the total is None if it is not known.
Progress = Callable[[int, int | None], None]
