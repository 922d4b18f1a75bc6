"""Progress bars of the stages, silent in a log."""

from tqdm import tqdm


def _bar(*arguments, **options):
    """A bar of tqdm that leaves nothing behind, and is silent in a log."""
    return tqdm(*arguments, disable=None, leave=False, dynamic_ncols=True, **options)


class ProgressBar:
    """A bar as the `progress(done, total)` of a long task; nothing in a log."""

    def __init__(self, name: str, unit: str):
        self._bar = _bar(desc=name, unit=unit)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line beside the bar."""
        self._bar.write(text)

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)


class DownloadBar:
    """A bar of bytes as `progress(done, total)`; what is there at the first call does not count for its rate."""

    def __init__(self, name: str):
        self._name, self._bar = name, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None or done < self._bar.n:
            self.__exit__()
            self._bar = _bar(desc=self._name, initial=done, total=total, unit="B", unit_scale=True)
        self._bar.update(done - self._bar.n)
