"""Reads untrusted zip and tar files without unpacking them to disk.

First the archive is listed and every member is checked: its name (`names.fault`), its kind (only files and folders),
its size, and its compression ratio. If one member fails, the whole archive is refused before anything is written; the
error names the member. Then the requested members are read as streams, in the order of the archive, and each must have
exactly the size that its header declares. Paths in the archive never become paths on disk: the caller chooses where to
write.

Memory stays bounded. The readers of the standard library get their file through a guard. It refuses large single reads
(a tar header may claim gigabytes), limits the headers of one member, counts the unpacked bytes, and never goes
backwards. Compression methods that let the archive choose the memory are limited (xz) or refused (bzip2 in a zip, where
the standard library unpacks a whole block of input at once).
"""

import contextlib
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from covpool.config.sections import Limits
from covpool.datasets import names
from covpool.datasets.errors import DatasetError
from covpool.datasets.guards import BLOCK, TAR_HEADER, CountedHeader, Guard, ZipGuard, decompressor

#: Any ratio is allowed up to this many bytes, because end marks and blank pictures compress very well.
RATIO_FREE = 1 << 20
#: Average bytes that a file may take in a zip's directory; bytes that it may take in a tar beyond its content.
ZIP_ENTRY, TAR_OVERHEAD = 160, 2048
#: Most characters in the names of all files and folders together, because they are held in memory.
MOST_NAMES = 64 << 20

#: What the standard library raises on damaged archives.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    IndexError,
    KeyError,
)

ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_archive(path: Path, limits: Limits) -> "ZipArchive | TarArchive | None":
    """Open an archive. Its format is detected by its first bytes, not by its name.

    Args:
        path: The file.
        limits: The section `dataset.limits` of params.yaml.

    Returns:
        The archive, or None if the file is neither zip nor tar.

    Raises:
        DatasetError: The archive is damaged, hostile or beyond the limits.
    """
    with open(path, "rb") as stream:
        start = stream.read(512)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZipArchive(path, limits)
    if start[257:262] == b"ustar" or decompressor(start) or _is_old_tar(start):
        return TarArchive(path, limits)
    return None


class Untrusted:
    """Files with untrusted names and sizes, which are checked together."""

    def __init__(self, path: Path | str, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self._sizes: dict[str, int] = {}

    def files(self) -> list[str]:
        """Return the paths of all files, sorted."""
        return sorted(self._sizes)

    def _refuse(self, member: str, reason: str) -> DatasetError:
        """Return the error that refuses the archive because of one member."""
        return DatasetError(f"{self.path}: {member!r} is refused: {reason}.")

    def _list(self, members: Iterator[tuple[str, int]]) -> None:
        """Check and store all members, given as names and sizes; raise DatasetError at the first bad one."""
        taken: dict[str, str] = {}
        folders: dict[str, None] = {}
        total = characters = 0
        for name, size in members:
            if not name:
                raise self._refuse(".", "it is a file without a name")
            key = names.folded(name)
            if name in self._sizes:
                raise self._refuse(name, "it is there twice")
            if key in taken:
                raise self._refuse(name, f"it differs from {taken[key]!r} only by case or accents")
            parents = key.split("/")[:-1]
            above = ["/".join(parents[: depth + 1]) for depth in range(len(parents))]
            if key in folders or any(folder in taken for folder in above):
                raise self._refuse(name, "a file and a folder have the same name")
            total += size
            if len(taken) >= self.limits.max_files:
                raise self._refuse(name, f"more files than dataset.limits.max_files ({self.limits.max_files})")
            if size > self.limits.max_file_bytes:
                raise self._refuse(
                    name, f"its {size} bytes are more than dataset.limits.max_file_bytes ({self.limits.max_file_bytes})"
                )
            if total > self.limits.max_unpacked_bytes:
                raise self._refuse(
                    name,
                    f"with it all files have more bytes than dataset.limits.max_unpacked_bytes "
                    f"({self.limits.max_unpacked_bytes})",
                )
            taken[key] = name
            new = [folder for folder in above if folder not in folders]
            folders.update(dict.fromkeys(new))
            if len(folders) > self.limits.max_files:
                raise self._refuse(name, f"more folders than dataset.limits.max_files ({self.limits.max_files})")
            characters += len(name) + sum(map(len, new))
            if characters > MOST_NAMES:
                raise self._refuse(name, f"the names in the archive have more than {MOST_NAMES} characters together")
            self._sizes[name] = size


class _Archive(Untrusted):
    """What zip and tar archives have in common."""

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path, limits)
        if path.stat().st_size > limits.max_archive_bytes:
            raise DatasetError(
                f"{path} has {path.stat().st_size} bytes, more than dataset.limits.max_archive_bytes "
                f"({limits.max_archive_bytes})"
            )

    def _damaged(self, member: str, error: object) -> DatasetError:
        """Return the error for an archive that is damaged at a member, or at its beginning if `member` is ''."""
        where = f"at {member!r}" if member else "at its beginning"
        return DatasetError(
            f"{self.path} is damaged {where} ({error or type(error).__name__}): download it again, and set "
            "dataset.sha256 if you know its SHA-256."
        )

    def _too_dense(self, unpacked: int, packed: int) -> bool:
        """Return whether the compression ratio is beyond the limit."""
        return unpacked > RATIO_FREE and unpacked > self.limits.max_ratio * max(packed, 1)

    def _bomb(self, member: str) -> DatasetError:
        """Return the error for a compression ratio beyond the limit."""
        return self._refuse(
            member, f"it unpacks to more than dataset.limits.max_ratio ({self.limits.max_ratio:g}) times its size"
        )


class ZipArchive(_Archive):
    """The files in a zip archive."""

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path, limits)
        # Folders have entries too, so twice as many entries as files are allowed.
        self._file = ZipGuard(open(path, "rb"), limits.max_files * ZIP_ENTRY + BLOCK, 2 * limits.max_files)
        try:
            # Names without the UTF-8 flag are in an unknown code page, so only names that are valid UTF-8 are accepted.
            self._zip = zipfile.ZipFile(self._file, metadata_encoding="utf-8")
            self._members = {names.plain(info.orig_filename): info for info in self._zip.infolist()}
            self._list(self._judged())
        except UnicodeDecodeError as error:
            self.close()
            raise self._refuse(error.object, "its name is not UTF-8; pack the archive again with such names") from None
        except DAMAGE as error:
            self.close()
            raise self._damaged("", error) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _judged(self) -> Iterator[tuple[str, int]]:
        """Check one member after the other and yield its name and size."""
        total = 0
        for info in self._zip.infolist():
            name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
            fault = names.fault(name)
            if fault:
                raise self._refuse(name, fault)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise self._refuse(name, "it is a link" if kind == stat.S_IFLNK else "it is a device or a pipe")
            if info.is_dir():
                # Empty content takes two bytes when it is deflated.
                if info.file_size or info.compress_size > 2:
                    raise self._refuse(name, "it is a folder with content")
                continue
            if kind == stat.S_IFDIR:
                raise self._refuse(name, "it is a folder by its mode and a file by its name")
            if info.flag_bits & 0x1:
                raise self._refuse(name, "it is encrypted; unpack the archive by hand and name the folder")
            if info.compress_type not in ZIP_METHODS:
                raise self._refuse(
                    name,
                    f"expected a member that is stored or deflated, got compression method {info.compress_type}; pack "
                    "the archive again",
                )
            total += info.file_size
            # Members may share their packed bytes, so the sum of all sizes is also compared with the whole archive.
            if self._too_dense(info.file_size, info.compress_size) or self._too_dense(total, self.path.stat().st_size):
                raise self._bomb(name)
            yield names.plain(name), info.file_size

    def read_files(self, wanted: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
        """Yield name and stream of each requested file. Read each stream before asking for the next one."""
        for name, info in self._members.items():
            if name in wanted:
                try:
                    raw = self._zip.open(info)
                except DAMAGE as error:
                    raise self._damaged(name, error) from None
                with contextlib.closing(raw):
                    yield name, _Member(raw, self, name)


class TarArchive(_Archive):
    """The files in a tar archive, plain or compressed with gzip, bzip2 or xz. Each listing or reading is one pass."""

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path, limits)
        self._list((name, member.size) for name, member, _ in self._walk() if not member.isdir())

    def close(self) -> None:
        """Do nothing: no file stays open between passes."""

    def read_files(self, wanted: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
        """Yield name and stream of each requested file. Read each stream before asking for the next one."""
        for name, member, tar in self._walk():
            if name in wanted and member.isfile():
                try:
                    raw = tar.extractfile(member)
                except DAMAGE as error:
                    raise self._damaged(name, error) from None
                yield name, _Member(raw, self, name)

    def _walk(self) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
        """Check and yield one member after the other; the names are safe and plain."""
        with open(self.path, "rb") as packed:
            opener = decompressor(packed.read(512))
            packed.seek(0)
            unpacked = opener(packed) if opener else packed
            last = ""

            def watch(position: int) -> None:
                if position > self.limits.max_unpacked_bytes + self.limits.max_files * TAR_OVERHEAD:
                    raise self._refuse(last, "the archive unpacks to more than dataset.limits allow")
                if opener and self._too_dense(position, packed.tell()):
                    raise self._bomb(last)

            guard = Guard(unpacked, TAR_HEADER, watch)
            try:
                # tarfile reads the first headers when it opens the archive, the others when `next` is called.
                guard.begin_member()
                tar = tarfile.open(
                    fileobj=guard, mode="r:", encoding="utf-8", errors="surrogateescape", tarinfo=CountedHeader
                )
                for member in iter(tar.next, None):
                    guard.end_member()
                    # tarfile keeps a list of all members; one pass does not need it.
                    tar.members.clear()
                    last = member.name
                    self._judge(member)
                    if names.plain(member.name) or not member.isdir():
                        yield names.plain(member.name), member, tar
                    guard.begin_member()
                guard.end_member()
                # tarfile stops at an invalid header as if it were the end; the real end is a block of zeros.
                if len(guard.last) < tarfile.BLOCKSIZE or any(guard.last):
                    raise tarfile.ReadError("what follows is neither a header nor the end mark")
                # Writers fill the last record with zeros; anything else would be lost silently.
                if any(any(block) for block in iter(lambda: guard.read(tarfile.RECORDSIZE), b"")):
                    raise self._refuse(last, "something follows the archive's end mark, such as another archive")
            except DAMAGE as error:
                raise self._damaged(last, error) from None

    def _judge(self, member: tarfile.TarInfo) -> None:
        """Raise DatasetError if the name or kind of a member is refused."""
        fault = names.fault(member.name)
        if fault:
            raise self._refuse(member.name, fault)
        if member.issym() or member.islnk():
            raise self._refuse(member.name, "it is a link")
        if member.issparse() or member.type == tarfile.GNUTYPE_SPARSE or not (member.isfile() or member.isdir()):
            raise self._refuse(member.name, "it is a device, a pipe or has holes")
        if member.size < 0:
            raise self._refuse(member.name, "its size is negative")
        if member.isdir() and member.size:
            raise self._refuse(member.name, "it is a folder with content")


class _Member(io.RawIOBase):
    """A file in an archive as a stream: errors name the member, and its size must equal the declared one."""

    def __init__(self, raw: BinaryIO, archive: _Archive, name: str) -> None:
        self._raw, self._archive, self._name = raw, archive, name
        self._left = archive._sizes[name]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            data = self._raw.read(min(len(buffer), BLOCK))
        except DAMAGE as error:
            raise self._archive._damaged(self._name, error) from None
        self._left -= len(data)
        if self._left < 0 or (not data and len(buffer) and self._left):
            raise self._archive._refuse(self._name, "its content does not have the size that its header declares")
        buffer[: len(data)] = data
        return len(data)


def _is_old_tar(start: bytes) -> bool:
    """Return whether the block is a tar header with a correct checksum; old tar files have no format marker."""
    with contextlib.suppress(tarfile.HeaderError):
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
        return True
    return False
