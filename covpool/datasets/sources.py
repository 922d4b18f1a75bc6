"""The containers of data sets: a folder, an archive, or a single file, all read through one interface (`Source`).

`archives` checks what untrusted archives may hold.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from covpool.config.sections import Limits
from covpool.datasets import names
from covpool.datasets.archives import open_archive
from covpool.datasets.errors import DatasetError

#: In bytes. No text file of a data set, such as its list of labels, is longer.
MAX_TEXT = 16 << 20


class Source(Protocol):
    """The files of a data set.

    Attributes:
        path: What errors call the source.
    """

    path: Path | str

    def files(self) -> list[str]:
        """Return the paths of all files, sorted, with `/` between their parts."""

    def read_files(self, wanted: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
        """Yield path and stream of each requested file. Read each stream before asking for the next one."""

    def close(self) -> None:
        """Release what the source holds open."""


def open_source(path: Path, limits: Limits) -> Source:
    """Open a local data set.

    Args:
        path: A folder, an archive or a single file.
        limits: The section `dataset.limits` of params.yaml.

    Returns:
        The source. Close it after use.

    Raises:
        DatasetError: There is neither a file nor a folder at `path`, or the archive is damaged, hostile or too large.
    """
    path = Path(path)
    if path.is_dir():
        return Folder(path, limits)
    if not path.is_file():
        raise DatasetError(f"{path} is neither a file nor a folder")
    return open_archive(path, limits) or SingleFile(path)


def read_text(source: Source, name: str) -> str:
    """Return the content of a UTF-8 text file of the source.

    Raises:
        DatasetError: The file is missing, longer than MAX_TEXT, or not UTF-8.
    """
    for _, stream in source.read_files({name}):
        data = stream.read(MAX_TEXT + 1)
        if len(data) > MAX_TEXT:
            raise DatasetError(f"{source.path}: {name} is longer than {MAX_TEXT} bytes; is it the right file?")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DatasetError(f"{source.path}: {name} is not UTF-8 text ({error})") from None
    raise DatasetError(f"{source.path}: {name} is missing")


class Folder:
    """The files below a folder. Links are followed, because the folder belongs to the user."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self._limits = path, limits

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def files(self) -> list[str]:
        """Return the paths of all files, sorted. Each folder is read once, even if several links lead to it."""
        found, waiting, entered = [], [""], {os.path.realpath(self.path)}
        while waiting:
            folder = waiting.pop()
            for entry in os.scandir(self.path / folder):
                name = f"{folder}/{entry.name}" if folder else entry.name
                if names.is_clutter(entry.name):
                    found.append(name)  # only counted, never read
                elif entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real in entered and entry.is_symlink():
                        raise DatasetError(
                            f"{entry.path} is a link to {real}, which is already part of the data set: remove the link"
                        )
                    entered.add(real)
                    waiting.append(name)
                elif not entry.is_file():
                    raise DatasetError(f"{entry.path} is {'a broken link' if entry.is_symlink() else 'not a file'}")
                else:
                    found.append(name)
                if len(found) > self._limits.max_files:
                    raise DatasetError(
                        f"{self.path} has more files than dataset.limits.max_files ({self._limits.max_files})"
                    )
        for name in found:
            if names.fault(name) == "its name is not UTF-8":
                raise DatasetError(f"{self.path}: {name!r}: its name is not UTF-8; rename it")
        return sorted(found)

    def read_files(self, wanted: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
        """Yield path and stream of each requested file, sorted by path."""
        for name in sorted(wanted):
            with open(self.path / name, "rb") as stream:
                yield name, stream


class SingleFile:
    """A single file that is not an archive, such as a table of pictures."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def files(self) -> list[str]:
        """Return the name of the file."""
        return [self.path.name]

    def read_files(self, wanted: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
        """Yield name and stream of the file if it is requested."""
        if self.path.name in wanted:
            with open(self.path, "rb") as stream:
                yield self.path.name, stream
