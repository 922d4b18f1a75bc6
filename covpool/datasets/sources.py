"""What a data set comes in: a folder, an archive, or a single file, all read in one way.

A source has `files()`, the paths of its files with `/` between their parts, and `read_files(wanted)`, which yields path
and stream of each wanted file; see `archives` for what is refused.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from covpool.datasets import names
from covpool.datasets.archives import open_archive
from covpool.datasets.errors import DatasetError

#: Text files of a data set, its list of labels for example, are not longer.
MAX_TEXT = 16 << 20


def open_source(path: Path, limits):
    """The source at `path`; close it after use. limits: `config.Limits`. Raises DatasetError where it can't be read."""
    path = Path(path)
    if path.is_dir():
        return Folder(path, limits)
    if not path.is_file():
        raise DatasetError(f"{path} is neither a file nor a folder")
    return open_archive(path, limits) or SingleFile(path)


def read_text(source, name: str) -> str:
    """The content of a text file of the source, as UTF-8."""
    for _, stream in source.read_files({name}):
        data = stream.read(MAX_TEXT + 1)
        if len(data) > MAX_TEXT:
            raise DatasetError(f"{source.path}: {name} is longer than {MAX_TEXT} bytes; is it the right file?")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DatasetError(f"{source.path}: {name} is not UTF-8 text ({error})") from None
    raise DatasetError(f"{source.path}: {name} is gone")


class Folder:
    """The files below a folder, through links too: they are the user's own."""

    def __init__(self, path: Path, limits) -> None:
        self.path, self._limits = path, limits

    def close(self) -> None:
        """Nothing is open."""

    def files(self) -> list[str]:
        """The paths of all files, sorted. Folders are entered once, however many links lead there."""
        found, waiting, entered = [], [""], {os.path.realpath(self.path)}
        while waiting:
            folder = waiting.pop()
            for entry in os.scandir(self.path / folder):
                name = f"{folder}/{entry.name}" if folder else entry.name
                if names.is_clutter(entry.name):
                    found.append(name)  # to be counted; nobody looks into it
                elif entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real in entered and entry.is_symlink():
                        raise DatasetError(f"{entry.path} is a link to {real}, which is read already: remove it")
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
        for name in sorted(wanted):
            with open(self.path / name, "rb") as stream:
                yield name, stream


class SingleFile:
    """One file that is no archive: a table of pictures."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def close(self) -> None:
        """Nothing is open."""

    def files(self) -> list[str]:
        return [self.path.name]

    def read_files(self, wanted: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
        if self.path.name in wanted:
            with open(self.path, "rb") as stream:
                yield self.path.name, stream
