"""Downloads remote data sets once, and resumes after broken connections.

Each download has a separate folder, named by its address and revision. A partial file stays there. The next run resumes
it if a validator of the server (ETag, or the date of the last change) shows that the file is still the same, and starts
again otherwise. A complete file is kept, and used again if the server says that it has not changed or if it has the
SHA-256 in dataset.sha256. The folders can be deleted at any time.

A transport reads the bytes: `web` for http and https, `buckets` for s3 and obs.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from covpool.config import Dataset
from covpool.datasets import names
from covpool.datasets.callbacks import Progress, Say
from covpool.datasets.errors import DatasetError
from covpool.pipeline import artifacts

#: Failures in a row without a new byte after which a download gives up, and seconds of the first and longest pause.
TRIES, FIRST_PAUSE, LONGEST_PAUSE = 6, 1.0, 30.0
#: A server must send at least SLOWEST bytes in each PERIOD, and the whole file within LONGEST (both in seconds).
SLOWEST, PERIOD, LONGEST = 100_000, 120.0, 24 * 3600.0


class Broken(Exception):
    """The connection broke, or the server is busy: worth a retry."""


class Changed(Exception):
    """The file has changed since the download started."""


@dataclass(frozen=True)
class Answer:
    """What a server sends.

    Attributes:
        start: Position in the file of the first byte that it sends.
        total: Bytes of the whole file, or None if they are not known.
        validator: Identifies this version of the file; '' if the server gives none.
        blocks: The bytes, or None if the local file is complete and current.
    """

    start: int
    total: int | None
    validator: str
    blocks: Iterator[bytes] | None


Result = TypeVar("Result")

#: (number of local bytes, their validator, whether the local file is complete) -> a context with the `Answer`. If the
#: server can't resume at these bytes, the answer starts at byte 0.
Transport = Callable[[int, str, bool], contextlib.AbstractContextManager[Answer]]


def folder_of(settings: Dataset, downloads: Path) -> Path:
    """Return the folder of a download below `downloads`."""
    key = artifacts.content_hash([settings.url, settings.endpoint, settings.revision])
    return downloads / key[:16]


def shown(url: str) -> str:
    """Return the address without user name, password and query, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def file_name(url: str) -> str:
    """Return the name of a downloaded file: the last part of the address if that is a safe name, else "download"."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return "download" if names.fault(name) or names.is_clutter(name) else name


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a download's folder; other processes wait for it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def download(settings: Dataset, folder: Path, transport: Transport, progress: Progress, say: Say) -> Path:
    """Download the file at `settings.url` into `folder` and check it.

    Args:
        settings: The section `dataset` of params.yaml.
        folder: Folder for the file and the state of its download.
        transport: Reads bytes from the server.
        progress: Called with the number of local bytes and of all bytes (or None), first with those of earlier runs.
        say: Called with a line of text on what happened.

    Returns:
        The path of the file.

    Raises:
        DatasetError: The file can't be downloaded, or its SHA-256 is not `settings.sha256`.
    """
    with locked(folder):
        path, record = folder / file_name(settings.url), folder / ".state.json"
        state = _read_state(record, path)
        if settings.sha256 and state["complete"] and artifacts.sha256_file(path) == settings.sha256:
            say(f"{shown(settings.url)} was already downloaded to {path}, with the SHA-256 in dataset.sha256")
            return path
        began = time.monotonic()
        arrived = _arrive(settings, path, record, state, transport, progress, say)
        digest = artifacts.sha256_file(path) if settings.sha256 else ""
        if digest != settings.sha256:
            wrong = f"{shown(settings.url)} has the SHA-256 {digest}, but dataset.sha256 is {settings.sha256}: it is "
            wrong += "not the expected file, or it was damaged during the download."
            if not arrived:
                # The user may have mistyped the sum, so a large complete file is not deleted.
                raise DatasetError(f"{wrong} It was downloaded before: delete {folder} to download it again.")
            shutil.rmtree(folder)
            raise DatasetError(f"{wrong} It was deleted.")
        if arrived:
            seconds = max(time.monotonic() - began, 1e-3)
            kept = path.stat().st_size - arrived
            rest = f"; {kept / 1e6:.1f} MB were there before" if kept > 0 else ""
            say(f"{shown(settings.url)}: {arrived / 1e6:.1f} MB downloaded, {arrived / 1e6 / seconds:.1f} MB/s{rest}")
        else:
            say(f"{shown(settings.url)} has not changed since it was downloaded to {path}")
        return path


def _read_state(record: Path, path: Path) -> dict:
    """Return the state of the local file; without a readable record the file counts as empty."""
    with contextlib.suppress(artifacts.ArtifactError, OSError, LookupError, TypeError):
        written, size = artifacts.read_json(record), path.stat().st_size
        return {"validator": str(written["validator"]), "complete": written.get("bytes") == size, "bytes": size}
    return {"validator": "", "complete": False, "bytes": 0}


def _arrive(
    settings: Dataset, path: Path, record: Path, state: dict, transport: Transport, progress: Progress, say: Say
) -> int:
    """Download the file, with retries; return the number of bytes that arrived."""
    have, validator, complete = state["bytes"], state["validator"], state["complete"]
    arrived, failures, furthest = 0, 0, have
    pace = _Pace(settings.url)
    while True:
        try:
            # Without a validator the server may have another version by now: resume only if a sum detects that.
            usable = have if validator or settings.sha256 and not complete else 0
            with transport(usable, validator, complete) as answer:
                if answer.blocks is None:
                    return arrived
                if answer.start < usable:
                    say(f"{shown(settings.url)} has changed or can't be resumed: starting again from the beginning")
                    arrived = 0
                have, validator, complete = answer.start, answer.validator, False
                _check_room(settings, path, answer)
                artifacts.write_json(record, {"validator": validator})
                progress(have, answer.total)
                with open(path, "r+b" if have else "wb") as stream:
                    stream.truncate(have)
                    stream.seek(have)
                    pace.begin()
                    for block in answer.blocks:
                        stream.write(block)
                        have, arrived = have + len(block), arrived + len(block)
                        if have > furthest:
                            # Only new bytes count as progress, because some servers start again and again.
                            furthest, failures = have, 0
                        _check_size(settings, have)
                        progress(have, answer.total)
                        pace.check(len(block))
                if answer.total is not None and have != answer.total:
                    raise Broken(f"{have} of {answer.total} bytes arrived")
                artifacts.write_json(record, {"validator": validator, "bytes": have})
                return arrived
        except _TooLarge:
            path.unlink(missing_ok=True)
            raise
        except (Broken, Changed) as error:
            if isinstance(error, Changed):
                say(f"{shown(settings.url)} has changed: starting again from the beginning")
                validator, complete, arrived = "", False, 0
                path.unlink(missing_ok=True)
            have = path.stat().st_size if path.exists() else 0
            failures += 1
            if failures >= TRIES:
                raise DatasetError(
                    f"{shown(settings.url)} broke off {TRIES} times ({error}). {have / 1e6:.1f} MB were downloaded: "
                    "run the same command again to resume."
                ) from None
            _pause(failures)


class _TooLarge(DatasetError):
    """The file is larger than the limit allows."""


class _Pace:
    """Detects a server that sends too slowly."""

    def __init__(self, url: str) -> None:
        self._url, self._began = url, time.monotonic()
        self.begin()

    def begin(self) -> None:
        """Start a new period, at the beginning of an answer."""
        self._period, self._bytes = time.monotonic(), 0

    def check(self, number: int) -> None:
        """Count bytes that arrived; raise DatasetError if they are too few for the time."""
        now, self._bytes = time.monotonic(), self._bytes + number
        if now - self._began > LONGEST:
            raise self._too_slow(f"did not arrive completely within {LONGEST / 3600:g} hours")
        if now - self._period > PERIOD:
            if self._bytes < SLOWEST:
                raise self._too_slow(f"sent {self._bytes} bytes in {now - self._period:.0f} s")
            self.begin()

    def _too_slow(self, what: str) -> DatasetError:
        return DatasetError(
            f"{shown(self._url)} {what}: too slow. Run the same command again to resume, or download it in another way "
            "and set dataset.source to the file."
        )


def _pause(failures: int) -> None:
    time.sleep(min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE))


def patiently(url: str, action: Callable[[], Result]) -> Result:
    """Call `action`, with retries after broken connections.

    Args:
        url: The address, for errors.
        action: A function that may raise Broken.

    Returns:
        The result of `action`.

    Raises:
        DatasetError: The connection broke TRIES times.
    """
    for failures in range(1, TRIES + 1):
        try:
            return action()
        except Broken as error:
            reason = str(error)
        if failures < TRIES:
            _pause(failures)
    raise DatasetError(f"{shown(url)} broke off {TRIES} times ({reason}): run the same command again to resume.")


def _check_size(settings: Dataset, size: int) -> None:
    if size > settings.limits.max_archive_bytes:
        raise _TooLarge(
            f"{shown(settings.url)} has {size} bytes or more, more than dataset.limits.max_archive_bytes "
            f"({settings.limits.max_archive_bytes})"
        )


def _check_room(settings: Dataset, path: Path, answer: Answer) -> None:
    _check_size(settings, answer.total or 0)
    missing = (answer.total or 0) - answer.start
    free = shutil.disk_usage(path.parent).free
    if missing > free:
        raise DatasetError(
            f"{shown(settings.url)}: the download needs {missing / 1e9:.1f} GB, but {path.parent.absolute()} has only "
            f"{free / 1e9:.1f} GB of free space"
        )


def check_sum(path: Path, sha256: str, say: Say) -> None:
    """Check the SHA-256 of a local file.

    Args:
        path: The file or folder of the data set.
        sha256: The expected SHA-256, or '' to only report the actual one.
        say: Called with the actual SHA-256 if none is expected.

    Raises:
        DatasetError: The SHA-256 differs, or one is expected of a folder.
    """
    if path.is_dir():
        if sha256:
            raise DatasetError(f"dataset.sha256: {path} is a folder, which has no SHA-256; leave dataset.sha256 empty")
        return
    digest = artifacts.sha256_file(path)
    if not sha256:
        say(f"{path} has the SHA-256 {digest}; set dataset.sha256 to this value to check it")
    elif digest != sha256:
        raise DatasetError(f"{path} has the SHA-256 {digest}, but dataset.sha256 is {sha256}")
