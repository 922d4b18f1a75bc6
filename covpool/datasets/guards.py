"""Guards between untrusted files and the standard library's readers of zip, tar, gzip, bzip2 and xz.

Those readers trust the headers of a file. The guards limit the size of a single read, the headers of one member, the
number of entries, and the memory of decompression.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from typing import BinaryIO

BLOCK = 1 << 20
#: Limits of a tar: bytes of headers per member, number of headers per member, and bytes of global headers of all
#: members together (tarfile keeps those for the whole archive).
TAR_HEADER, TAR_HEADERS, TAR_GLOBAL = 1 << 20, 16, 1 << 16
#: Bytes of memory that decompressing xz may take. Files made by `xz -9` need 65 MiB.
XZ_MEMORY = 128 << 20
ZIP_ENTRY_START = b"PK\x01\x02"
PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class Guard:
    """A file for zipfile and tarfile that refuses to read more than `most` bytes at once.

    Args:
        raw: The file.
        most: Most bytes of a single read, and of the headers of one member.
        watch: Called with each new position. If it is given, the file is only read forwards, and seeks read in steps.
    """

    def __init__(self, raw: BinaryIO, most: int, watch: Callable[[int], None] | None = None) -> None:
        self._raw, self._most, self._watch = raw, most, watch
        self._position = 0
        self._header_bytes: int | None = None
        self._headers = self._global_bytes = 0
        self.last = b""

    def begin_member(self) -> None:
        """Count all bytes read from now on as headers, until `end_member`."""
        self._header_bytes = self._headers = 0

    def end_member(self) -> None:
        """Count all bytes read from now on as the content of the member."""
        self._header_bytes = None

    def count_header(self, size: int, is_global: bool) -> None:
        """Count an extra header before the member's own; raise tarfile.ReadError beyond the limits."""
        self._headers += 1
        self._global_bytes += size if is_global else 0
        if self._headers > TAR_HEADERS:
            raise tarfile.ReadError(f"more than {TAR_HEADERS} headers of one member")
        if self._global_bytes > TAR_GLOBAL:
            raise tarfile.ReadError(f"more than {TAR_GLOBAL} bytes of global headers")

    def read(self, size: int = -1) -> bytes:
        """Read bytes; raise tarfile.ReadError beyond the limits."""
        if size > self._most:
            raise tarfile.ReadError(f"a header of {size} bytes")
        # zipfile reads without a size only at the end of a file, where a few bytes are left.
        self.last = self._raw.read(size if size >= 0 else BLOCK)
        if self._header_bytes is not None:
            self._header_bytes += len(self.last)
            if self._header_bytes > self._most + TAR_HEADERS * tarfile.BLOCKSIZE:
                raise tarfile.ReadError(f"more than {self._most} bytes of headers of one member")
        self._moved(len(self.last))
        return self.last

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; with `watch` only forwards, else raise tarfile.ReadError."""
        if not self._watch:
            return self._raw.seek(offset, whence)
        # tarfile reads one byte to see whether a member is complete, and then steps back by this byte.
        if offset < self._position - 1:
            raise tarfile.ReadError("a header that points backwards")
        if offset == self._position - 1:
            self._raw.seek(offset)
            self._position = offset
        while self._position < offset:
            data = self._raw.read(min(BLOCK, offset - self._position))
            if not data:
                break
            self._moved(len(data))
        return self._position

    def _moved(self, number: int) -> None:
        self._position += number
        if self._watch:
            self._watch(self._position)

    def tell(self) -> int:
        return self._position if self._watch else self._raw.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._raw.close()


class ZipGuard(Guard):
    """A guard for zip files: zipfile reads the directory at once, so entries are counted before objects are made."""

    def __init__(self, raw: BinaryIO, most: int, most_entries: int) -> None:
        super().__init__(raw, most)
        self._most_entries = most_entries

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        if len(data) > BLOCK and data.count(ZIP_ENTRY_START) > self._most_entries:
            raise zipfile.BadZipFile(f"its directory has more than {self._most_entries} entries")
        return data


class CountedHeader(tarfile.TarInfo):
    """A tar header that is checked before tarfile reads the data that belongs to it."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # tarfile.py offers this method to subclasses.
        if self.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, *PAX_TYPES):
            archive.fileobj.count_header(self.size, self.type == tarfile.XGLTYPE)
        if self.type == tarfile.GNUTYPE_SPARSE:
            # The map of holes may be endless, so it is not read. The caller refuses sparse members anyway.
            archive.offset = archive.fileobj.tell()
            return self
        return super()._proc_member(archive)


class _Xz(io.RawIOBase):
    """The content of an xz file with one or several streams, decompressed with limited memory."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed, self._left = packed, b""
        self._decompressor = self._begun()

    def _begun(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while True:
            if self._decompressor.eof:
                # The format allows zeros between streams.
                rest = self._decompressor.unused_data.lstrip(b"\0")
                while not rest:
                    block = self._packed.read(io.DEFAULT_BUFFER_SIZE)
                    if not block:
                        return 0
                    rest = block.lstrip(b"\0")
                self._decompressor, self._left = self._begun(), rest
            elif self._decompressor.needs_input:
                self._left = self._packed.read(io.DEFAULT_BUFFER_SIZE)
                if not self._left:
                    raise EOFError("the compressed file ends before its end mark")
            try:
                data = self._decompressor.decompress(self._left, len(buffer))
            except lzma.LZMAError as error:
                if "Memory usage limit" in str(error):
                    error = f"unpacking it takes more than {XZ_MEMORY >> 20} MiB of memory; pack it again with xz -9"
                raise lzma.LZMAError(str(error)) from None
            self._left = b""
            if data:
                buffer[: len(data)] = data
                return len(data)


def decompressor(start: bytes) -> Callable[[BinaryIO], BinaryIO] | None:
    """Choose a decompressor by the first bytes of a file.

    Args:
        start: The first bytes.

    Returns:
        A function from the compressed file to its content, or None if the file is not compressed.
    """
    if start.startswith(b"\x1f\x8b"):
        return lambda packed: gzip.GzipFile(fileobj=packed, mode="rb")
    if start.startswith(b"\xfd7zXZ\x00"):
        return lambda packed: io.BufferedReader(_Xz(packed))
    if start.startswith(b"BZh"):
        return bz2.BZ2File
    return None
