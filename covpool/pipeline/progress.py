"""Progress bars of the stages. They print nothing if the output is not a terminal."""

from typing import Any

from tqdm import tqdm


def _bar(*arguments: Any, **options: Any) -> tqdm:
    """Return a tqdm bar that disappears at its end, and prints nothing if the output is not a terminal."""
    return tqdm(*arguments, disable=None, leave=False, dynamic_ncols=True, **options)


class ProgressBar:
    """A bar that a long task can call as `progress(done, total)`. Use it as a context manager."""

    def __init__(self, name: str, unit: str) -> None:
        """Show an empty bar.

        Args:
            name: The text before the bar.
            unit: The name of one item.
        """
        self._bar = _bar(desc=name, unit=unit)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line above the bar.

        Args:
            text: The line.
        """
        self._bar.write(text)

    def __call__(self, done: int, total: int) -> None:
        """Update the bar.

        Args:
            done: The number of items that are done.
            total: The number of all items.
        """
        self._bar.total = total
        self._bar.update(done - self._bar.n)


class DownloadBar:
    """A bar of bytes that a download can call as `progress(done, total)`. Use it as a context manager.

    The bytes that are present at the first call do not count for the displayed rate.
    """

    def __init__(self, name: str) -> None:
        """Prepare a bar; it appears at the first call.

        Args:
            name: The text before the bar.
        """
        self._name, self._bar = name, None

    def __enter__(self) -> "DownloadBar":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Update the bar, or start a new one if the download has started again.

        Args:
            done: The number of bytes that are present.
            total: The number of all bytes.
        """
        if self._bar is None or done < self._bar.n:
            self.__exit__()
            self._bar = _bar(desc=self._name, initial=done, total=total, unit="B", unit_scale=True)
        self._bar.update(done - self._bar.n)
