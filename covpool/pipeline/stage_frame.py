"""What every stage script of the current Python does: load the parameters, show progress, tell errors in a line."""

import sys
from contextlib import contextmanager

from tqdm import tqdm

from covpool.config import ParamsError, load_params


@contextmanager
def stage(name, *errors):
    """The stage's block: gives the parameters; ParamsError and `errors` end the script with their message, exit 1.

    An interrupt ends it with exit 130, so that DVC does not take what is there for complete.
    """
    try:
        yield load_params()
    except (ParamsError, *errors) as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        sys.exit(130)


class ProgressBar:
    """A bar as the `progress(done, total)` of a long task; nothing in a log."""

    def __init__(self, name, unit):
        self._bar = tqdm(desc=name, unit=unit, disable=None, leave=False, dynamic_ncols=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def say(self, text):
        """Print a line beside the bar."""
        self._bar.write(text)

    def __call__(self, done, total):
        self._bar.total = total
        self._bar.update(done - self._bar.n)


class DownloadBar:
    """A bar of bytes as `progress(done, total)`; what is there at the first call does not count for its rate."""

    def __init__(self, name):
        self._name, self._bar = name, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done, total):
        if self._bar is None or done < self._bar.n:
            self.__exit__()
            self._bar = tqdm(
                desc=self._name,
                initial=done,
                total=total,
                unit="B",
                unit_scale=True,
                disable=None,
                leave=False,
                dynamic_ncols=True,
            )
        self._bar.update(done - self._bar.n)
