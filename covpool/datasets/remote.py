"""Data sets at an address: brought to a folder of downloads once, however often the line breaks.

A download has a folder of its own, named by its address and revision. The part that has arrived stays there and the
next run goes on behind it, as long as the server says by a validator (ETag, or the date of the last change) that the
file is still the one that was begun; else it begins anew. A complete file is kept and used again as long as the server
says that it has not changed, or its SHA-256 is the one that was asked for. Everything here may be deleted at any time.

How bytes come is the transport's affair: `web` for http and https, `buckets` for s3 and obs.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from covpool.datasets import names
from covpool.datasets.errors import DatasetError
from covpool.pipeline import artifacts

#: Breaks in a row, with no byte beyond those that came before, after which a download gives up, and the pauses between.
TRIES, FIRST_PAUSE, LONGEST_PAUSE = 6, 1.0, 30.0
#: A server must send this many bytes in each period of this many seconds, and all within a day.
SLOWEST, PERIOD, LONGEST = 100_000, 120.0, 24 * 3600.0


class Broken(Exception):
    """The line broke, or the server is busy: worth another try."""


class Changed(Exception):
    """The file is no longer the one that was begun."""


@dataclass(frozen=True)
class Answer:
    """What a server sends: from byte `start` on, `total` bytes of the whole file (None: not told).

    validator: what tells this version of the file from others, or ''; blocks: the bytes, None where the file that is
    there already is the current one.
    """

    start: int
    total: int | None
    validator: str
    blocks: Iterator[bytes] | None


#: (bytes that are there, their validator, whether they are all) -> a context with the `Answer`. It sends from the
#: beginning whatever it can't continue.
Transport = Callable[[int, str, bool], contextlib.AbstractContextManager[Answer]]


def folder_of(settings, downloads: Path) -> Path:
    """Where the download of `config.Dataset` lies below `downloads`."""
    key = artifacts.content_hash([settings.url, settings.endpoint, settings.revision])
    return downloads / key[:16]


def shown(url: str) -> str:
    """The address without what may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def file_name(url: str) -> str:
    """The name that a downloaded file gets: the address's last part where that is a safe one."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return "download" if names.fault(name) or names.is_clutter(name) else name


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a download's folder; they wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def download(settings, folder: Path, transport: Transport, progress, say) -> Path:
    """The file at `settings.url`, whole and checked, in `folder`.

    Args:
        settings: `config.Dataset`.
        folder: Where the file and what is known of it are kept.
        transport: How bytes come from the server.
        progress: Called with (bytes here, bytes in all or None), first with those that were here before.
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
            say(f"{shown(settings.url)} is there already ({path}), with the SHA-256 in dataset.sha256")
            return path
        began = time.monotonic()
        arrived = _arrive(settings, path, record, state, transport, progress, say)
        digest = artifacts.sha256_file(path) if settings.sha256 else ""
        if digest != settings.sha256:
            wrong = f"{shown(settings.url)} has the SHA-256 {digest}, but dataset.sha256 is {settings.sha256}: it is "
            wrong += "not the expected file, or was damaged on its way."
            if not arrived:
                # Perhaps the sum is what is mistyped, and a large file came whole before.
                raise DatasetError(f"{wrong} It was downloaded before: delete {folder} to download it again.")
            shutil.rmtree(folder)
            raise DatasetError(f"{wrong} It was deleted.")
        if arrived:
            seconds = max(time.monotonic() - began, 1e-3)
            kept = path.stat().st_size - arrived
            rest = f"; {kept / 1e6:.1f} MB were there" if kept > 0 else ""
            say(f"{shown(settings.url)}: {arrived / 1e6:.1f} MB came, {arrived / 1e6 / seconds:.1f} MB/s{rest}")
        else:
            say(f"{shown(settings.url)} has not changed since it was downloaded to {path}")
        return path


def _read_state(record: Path, path: Path) -> dict:
    """What is known of the part that is there; nothing is there where it is not known."""
    with contextlib.suppress(artifacts.ArtifactError, OSError, LookupError, TypeError):
        written, size = artifacts.read_json(record), path.stat().st_size
        return {"validator": str(written["validator"]), "complete": written.get("bytes") == size, "bytes": size}
    return {"validator": "", "complete": False, "bytes": 0}


def _arrive(settings, path: Path, record: Path, state: dict, transport: Transport, progress, say) -> int:
    """Bring the file here through all breaks; return how many bytes came."""
    have, validator, complete = state["bytes"], state["validator"], state["complete"]
    arrived, failures, furthest = 0, 0, have
    pace = _Pace(settings.url)
    while True:
        try:
            # What can't be told from another version is continued only where the sum will tell.
            usable = have if validator or settings.sha256 and not complete else 0
            with transport(usable, validator, complete) as answer:
                if answer.blocks is None:
                    return arrived
                if answer.start < usable:
                    say(f"{shown(settings.url)} has changed or can't be continued: from the beginning")
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
                            # Bytes that came before are no progress: some servers begin again and again.
                            furthest, failures = have, 0
                        _check_size(settings, have)
                        progress(have, answer.total)
                        pace.check(len(block))
                if answer.total is not None and have != answer.total:
                    raise Broken(f"{have} of {answer.total} bytes came")
                artifacts.write_json(record, {"validator": validator, "bytes": have})
                return arrived
        except _TooLarge:
            path.unlink(missing_ok=True)
            raise
        except (Broken, Changed) as error:
            if isinstance(error, Changed):
                say(f"{shown(settings.url)} has changed: from the beginning")
                validator, complete, arrived = "", False, 0
                path.unlink(missing_ok=True)
            have = path.stat().st_size if path.exists() else 0
            failures += 1
            if failures >= TRIES:
                raise DatasetError(
                    f"{shown(settings.url)} broke off {TRIES} times ({error}). {have / 1e6:.1f} MB are here: run the "
                    "same command again to resume."
                ) from None
            _pause(failures)


class _TooLarge(DatasetError):
    """The file is larger than the limit allows."""


class _Pace:
    """Notices a server that sends so slowly that the download would not end."""

    def __init__(self, url: str) -> None:
        self._url, self._began = url, time.monotonic()
        self.begin()

    def begin(self) -> None:
        """A new answer begins."""
        self._period, self._bytes = time.monotonic(), 0

    def check(self, number: int) -> None:
        """Count bytes that came; raises DatasetError if they are too few for the time."""
        now, self._bytes = time.monotonic(), self._bytes + number
        if now - self._began > LONGEST:
            raise self._too_slow(f"was not here after {LONGEST / 3600:g} hours")
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


def patiently(url: str, action: Callable):
    """The result of `action`, tried again where the line breaks; DatasetError where it keeps breaking."""
    for failures in range(1, TRIES + 1):
        try:
            return action()
        except Broken as error:
            reason = str(error)
        if failures < TRIES:
            _pause(failures)
    raise DatasetError(f"{shown(url)} broke off {TRIES} times ({reason}): run the same command again to resume.")


def _check_size(settings, size: int) -> None:
    if size > settings.limits.max_archive_bytes:
        raise _TooLarge(
            f"{shown(settings.url)} has {size} bytes or more, more than dataset.limits.max_archive_bytes "
            f"({settings.limits.max_archive_bytes})"
        )


def _check_room(settings, path: Path, answer: Answer) -> None:
    _check_size(settings, answer.total or 0)
    missing = (answer.total or 0) - answer.start
    free = shutil.disk_usage(path.parent).free
    if missing > free:
        raise DatasetError(
            f"{shown(settings.url)}: {missing / 1e9:.1f} GB are missing, but {path.parent.absolute()} has room for "
            f"{free / 1e9:.1f} GB"
        )


def check_sum(path: Path, sha256: str, say) -> None:
    """Compare the SHA-256 of a local file with the one that was given, or tell it."""
    if path.is_dir():
        if sha256:
            raise DatasetError(f"dataset.sha256: {path} is a folder, which has no sum; leave it empty")
        return
    digest = artifacts.sha256_file(path)
    if not sha256:
        say(f"{path} has the SHA-256 {digest}; dataset.sha256 would check it")
    elif digest != sha256:
        raise DatasetError(f"{path} has the SHA-256 {digest}, but dataset.sha256 is {sha256}")
