"""Hostile archives: each is refused by its member's name, writes nothing, and takes little memory.

Each maker writes one at `path` around good pictures.
"""

import gzip
import io
import itertools
import json
import lzma
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pytest

from covpool.datasets import DatasetError, fetch
from tests.project import ROOT


def zip_of(path, *members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members:
            archive.writestr(name, data)


def zip_named(name):
    return lambda path: zip_of(path, ("train/happy/a.png", b"x"), (zipfile.ZipInfo(name), b"x"))


def zip_typed(kind):
    def make(path):
        member = zipfile.ZipInfo("train/happy/odd.png")
        member.external_attr = (kind | 0o644) << 16
        zip_of(path, ("train/happy/a.png", b"x"), (member, b"/etc/passwd"))

    return make


def zip_patched(change):
    """A zip whose bytes are changed; the first of its two members has 4000 bytes."""

    def make(path):
        zip_of(path, ("train/happy/odd.png", os.urandom(4000)), ("val/happy/b.png", b"x"))
        path.write_bytes(change(bytearray(path.read_bytes())))

    return make


def set_size(data, size):
    """Claim another unpacked size, in both places where a zip has it."""
    place = data.index(b"PK\x01\x02")
    data[22:26] = data[place + 24 : place + 28] = struct.pack("<I", size)
    return bytes(data)


def set_bytes(where, value):
    def change(data):
        place = data.index(b"PK\x01\x02") + where
        data[place : place + len(value)] = value
        return bytes(data)

    return change


def zip_not_utf8(path):
    zip_of(path, ("train/happy/od\xe9.png".encode("cp437").decode("latin-1"), b"x"))
    data = path.read_bytes().replace("od\x82.png".encode(), b"od\xff\xfe.png")
    path.write_bytes(data)
    assert b"\xff\xfe" in data


def overlapping_zip(path):
    """Many members of the directory share the packed bytes of one: small each, huge together."""
    zip_of(path, ("train/happy/0000.png", bytes(1 << 20)))
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    entry, end = data[start : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"0000", b"%04d" % number) for number in range(1000))
    end = bytearray(end)
    end[8:16] = struct.pack("<HHI", 1000, 1000, len(entries))
    path.write_bytes(data[:start] + entries + end)


def tar_of(path, *members):
    """A tar.gz of (TarInfo or name, data)."""
    with tarfile.open(path, "w:gz") as archive:
        for member, data in (("train/happy/a.png", b"x"), *members):
            member = tarfile.TarInfo(member) if isinstance(member, str) else member
            member.size = member.size or len(data)
            archive.addfile(member, io.BytesIO(data))


def tar_named(*names):
    return lambda path: tar_of(path, *((name, b"x") for name in names))


def tar_typed(kind, link=""):
    def make(path):
        member = tarfile.TarInfo("train/happy/odd.png")
        member.type, member.linkname = kind, link
        tar_of(path, (member, b""))

    return make


def tar_raw(*blocks):
    """A tar of given blocks, with a good member before them."""

    def make(path):
        good = tarfile.TarInfo("train/happy/a.png")
        good.size = 1
        path.write_bytes(b"".join((good.tobuf(), b"x".ljust(512, b"\0"), *blocks, bytes(1024))))

    return make


def header(name, size, **fields):
    member = tarfile.TarInfo(name)
    member.size = size
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def tar_bomb(path):
    """Zeros that shrink a thousandfold, in a member whose size is within the limits."""
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("train/happy/odd.png")
        member.size = 64 << 20
        archive.addfile(member, open("/dev/zero", "rb"))


def zip_bzip2(path):
    """A member that claims less than it unpacks to."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("train/happy/odd.png", bytes(32 << 20))
    path.write_bytes(set_size(bytearray(path.read_bytes()), 500_000))


def tar_pax_holes(path):
    """A sparse member in the form PAX 1.0, whose map of holes precedes its content; it is longer than it may be."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("train/happy/a.png"))
        member = tarfile.TarInfo("train/happy/odd.png")
        data = b"9999999\n" + b"1\n" * (1 << 20)
        member.size, member.pax_headers = len(data), {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        archive.addfile(member, io.BytesIO(data))


def gnu_holes(extensions):
    """A sparse member in GNU's old form, whose map goes on in many more blocks."""
    block = bytearray(header("odd.png", 0, type=tarfile.GNUTYPE_SPARSE))
    block[482] = 1
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    more = (b"00000000001\0" * 42)[:504] + b"\1" + bytes(7)
    return [bytes(block), *itertools.repeat(more, extensions)]


def global_headers(number, keys=3):
    """Global PAX headers with keys of their own."""
    for count in range(number):
        data = b"".join(b"21 %016d=1\n" % (count * keys + key) for key in range(keys))
        yield header("global", len(data), type=tarfile.XGLTYPE) + data + bytes(-len(data) % 512)


def xz_dictionary(path):
    """A tar.xz whose header asks for a dictionary of 1 GiB."""
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("train/happy/a.png"))
    packed = bytearray(lzma.compress(path.read_bytes()))
    # The header of the block: its size, flags, the filter LZMA2 (0x21), its size and that of the dictionary.
    start, length = 12, (packed[12] + 1) * 4
    assert packed[start + 2 : start + 4] == b"\x21\x01"
    packed[start + 4] = 36
    packed[start + length - 4 : start + length] = struct.pack("<I", zlib.crc32(packed[start : start + length - 4]))
    path.write_bytes(packed)


DEEP = "train/" * 40 + "odd.png"
HOSTILE = {
    "zip absolute": (zip_named("/etc/odd.png"), "'/etc/odd.png' is refused: its path is absolute"),
    "zip drive": (zip_named("C:/odd.png"), "'C:/odd.png' is refused: its path is absolute"),
    "zip dots": (zip_named("train/../../odd.png"), "'train/../../odd.png' is refused: its path leads out"),
    "zip backslash": (zip_named("train\\..\\odd.png"), "odd.png' is refused: its name has a backslash"),
    "zip escape code": (zip_named("train/\x1b[2Jodd.png"), r"'train/\x1b[2Jodd.png' is refused: its name has"),
    "zip nul": (zip_patched(lambda data: data.replace(b"odd.png", b"od\0.png")), r"od\x00.png' is refused: its name h"),
    "zip deep": (zip_named(DEEP), "odd.png' is refused: it lies more than 32 folders deep"),
    "zip long": (zip_named("train/" + "n" * 300), "n' is refused: its name is too long"),
    "zip symlink": (zip_typed(stat.S_IFLNK), "'train/happy/odd.png' is refused: it is a link"),
    "zip device": (zip_typed(stat.S_IFBLK), "'train/happy/odd.png' is refused: it is a device or a pipe"),
    "zip pipe": (zip_typed(stat.S_IFIFO), "'train/happy/odd.png' is refused: it is a device or a pipe"),
    "zip case": (zip_named("Train/Happy/A.png"), "'Train/Happy/A.png' is refused: it differs from 'train/happy/a.png'"),
    "zip twice": (zip_named("train/happy/a.png"), "'train/happy/a.png' is refused: it is there twice"),
    "zip twice, plain": (zip_named("train//./happy/a.png"), "'train/happy/a.png' is refused: it is there twice"),
    "zip file and folder": (
        zip_named("train/happy"),
        "'train/happy' is refused: a file and a folder have the same name",
    ),
    "zip below a file": (zip_named("train/happy/a.png/b"), "/b' is refused: a file and a folder have the same name"),
    "zip accents": (
        lambda path: zip_of(path, ("train/h/é.png", b"x"), ("train/h/e\u0301.png", b"x")),
        "' is refused: it differs from 'train/h/é.png' only by case or accents",
    ),
    "zip not UTF-8": (zip_not_utf8, "is refused: its name is not UTF-8; pack the archive again"),
    "zip encrypted": (zip_patched(set_bytes(8, b"\x01")), "'train/happy/odd.png' is refused: it is encrypted"),
    "zip method": (
        zip_patched(set_bytes(10, b"\x0e")),
        "expected a member that is stored or deflated, got compression method 14",
    ),
    "zip longer than said": (zip_patched(lambda data: set_size(data, 10)), "at 'train/happy/odd.png' (Bad CRC-32"),
    "zip shorter than said": (
        zip_patched(lambda data: set_size(data, 5000)),
        "odd.png' is refused: its content does not have the size",
    ),
    "zip other name inside": (
        zip_patched(lambda data: bytes(data).replace(b"odd.png", b"abc.png", 1)),
        "is damaged at 'train/happy/odd.png'",
    ),
    "zip ratio": (
        lambda path: zip_of(path, ("train/happy/odd.png", bytes(8 << 20))),
        "'train/happy/odd.png' is refused: it unpacks to more than dataset.limits.max_ratio (200) times its size",
    ),
    "zip overlapping": (overlapping_zip, "png' is refused: it unpacks to more than dataset.limits.max_ratio (200)"),
    "zip bzip2": (zip_bzip2, "expected a member that is stored or deflated, got compression method 12"),
    "zip folder with content": (zip_named("val/odd.png/"), "'val/odd.png/' is refused: it is a folder with content"),
    "zip folder by its mode": (
        zip_typed(stat.S_IFDIR),
        "odd.png' is refused: it is a folder by its mode and a file by",
    ),
    "zip without a name": (zip_named("."), "'.' is refused: it is a file without a name"),
    "tar without a name": (tar_named("."), "'.' is refused: it is a file without a name"),
    "tar folder with content": (
        tar_raw(header("val", 9, type=tarfile.DIRTYPE)),
        "'val' is refused: it is a folder with content",
    ),
    "tar pax map of holes": (tar_pax_holes, "is damaged at 'train/happy/a.png' (more than 1048576 bytes of headers"),
    "tar holes that go on": (tar_raw(*gnu_holes(5000)), "'odd.png' is refused: it is a device, a pipe or has holes"),
    "tar pile of global headers": (tar_raw(*global_headers(50)), "(more than 16 headers of one member)"),
    "tar long global header": (tar_raw(*global_headers(1, 5000)), "(more than 65536 bytes of global headers)"),
    "tar xz of gigabytes": (xz_dictionary, "unpacking it takes more than 128 MiB of memory; pack it again with xz -9"),
    "tar absolute": (tar_named("/etc/odd.png"), "'/etc/odd.png' is refused: its path is absolute"),
    "tar dots": (tar_named("../odd.png"), "'../odd.png' is refused: its path leads out of the folder"),
    "tar control": (tar_named("train/happy/\nodd.png"), r"'train/happy/\nodd.png' is refused: its name has"),
    "tar deep": (tar_named(DEEP), "odd.png' is refused: it lies more than 32 folders deep"),
    "tar symlink": (tar_typed(tarfile.SYMTYPE, "/etc"), "'train/happy/odd.png' is refused: it is a link"),
    "tar hardlink": (tar_typed(tarfile.LNKTYPE, "train/happy/a.png"), "'train/happy/odd.png' is refused: it is a link"),
    "tar character device": (tar_typed(tarfile.CHRTYPE), "'train/happy/odd.png' is refused: it is a device, a pipe"),
    "tar block device": (tar_typed(tarfile.BLKTYPE), "'train/happy/odd.png' is refused: it is a device, a pipe"),
    "tar pipe": (tar_typed(tarfile.FIFOTYPE), "'train/happy/odd.png' is refused: it is a device, a pipe"),
    "tar holes": (tar_typed(tarfile.GNUTYPE_SPARSE), "'train/happy/odd.png' is refused: it is a device, a pipe or has"),
    "tar case": (tar_named("train/Happy/a.png"), "'train/Happy/a.png' is refused: it differs from 'train/happy/a.png'"),
    "tar twice": (tar_named("train/happy/a.png"), "'train/happy/a.png' is refused: it is there twice"),
    "tar not UTF-8": (
        tar_raw(header("train/happy/o\udcff.png", 1), b"x".ljust(512, b"\0")),
        r"'train/happy/o\udcff.png' is refused: its name is not UTF-8",
    ),
    "tar longer than said": (tar_raw(header("odd.png", 1), b"x" * 1024), "is damaged at 'odd.png' (what follows is ne"),
    "tar shorter than said": (tar_raw(header("odd.png", 9999), b"x" * 512), "damaged at 'odd.png' (unexpected end of"),
    "tar negative size": (tar_raw(header("odd.png", -1024)), "'odd.png' is refused: its size is negative"),
    "tar too large a file": (tar_raw(header("odd.png", 3_000_000_000)), "'odd.png' is refused: its 3000000000 bytes a"),
    "tar header of gigabytes": (
        tar_raw(header("odd.png", 4 << 30, type=tarfile.GNUTYPE_LONGNAME)),
        "(a header of 4294967296 bytes)",
    ),
    "tar pax header of gigabytes": (
        tar_raw(header("odd.png", 4 << 30, type=tarfile.XHDTYPE)),
        "(a header of 4294967296 bytes)",
    ),
    "tar headers without end": (
        tar_raw(*itertools.repeat(header("odd.png", 1, type=tarfile.GNUTYPE_LONGNAME) + b"a".ljust(512, b"\0"), 2000)),
        "is damaged at 'train/happy/a.png'",
    ),
    "tar bomb": (tar_bomb, "'train/happy/odd.png' is refused: it unpacks to more than dataset.limits.max_ratio (200)"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_archive_is_refused_by_name_and_nothing_is_written(tmp_path, settings, name):
    make, message = HOSTILE[name]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "archive")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError) as caught:
        fetch(settings(tmp_path / "in" / "archive"), tmp_path / "raw", say=lambda text: None)
    assert message in str(caught.value) and str(tmp_path / "in" / "archive") in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def mib_of_global_headers(path, mebibytes=30):
    """Global PAX headers, each with keys of its own."""
    with gzip.open(path, "wb", 1) as stream:
        stream.write(tarfile.TarInfo("train/happy/a.png").tobuf())
        for block in global_headers(mebibytes * 2, 25_000):
            stream.write(block)


def gnu_holes_without_end(path):
    with gzip.open(path, "wb", 1) as stream:
        first, *more = gnu_holes(1)
        stream.write(first)
        for _ in range(200):
            stream.write(more[0] * 1000)


def pax_holes_without_end(path):
    with gzip.open(path, "wb", 1) as stream:
        member = tarfile.TarInfo("train/happy/odd.png")
        member.size, member.pax_headers = 1 << 30, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        stream.write(member.tobuf(tarfile.PAX_FORMAT) + b"99999999\n")
        for _ in range(100):
            stream.write(b"1\n" * (1 << 19))


def bzip2_in_zip(path):
    """A member of 1 GiB that claims 500 kB, packed with bzip2."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        with archive.open("train/happy/odd.png", "w") as stream:
            for _ in range(1 << 10):
                stream.write(bytes(1 << 20))
    path.write_bytes(set_size(bytearray(path.read_bytes()), 500_000))


def zip_of_entries(path):
    """A directory of a million entries."""
    zip_of(path, ("train/happy/0000000.png", b"x"))
    data = path.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = data[start:end]
    entries = b"".join(entry.replace(b"0000000", b"%07d" % number) for number in range(1_100_000))
    tail = bytearray(data[end:])
    tail[8:16] = struct.pack("<HHI", 0xFFFF, 0xFFFF, len(entries))
    path.write_bytes(data[:start] + entries + tail)


def deep_folders(path):
    """Files in 31 folders of their own each."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number in range(60_000):
            archive.addfile(tarfile.TarInfo("/".join([f"{number:07x}"] * 32)))


def member_of_gigabytes(path):
    """A good archive, but for a picture of 1 GiB."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("train/happy/a.png")
        member.size = 1 << 20
        archive.addfile(member, io.BytesIO(os.urandom(1 << 20)))
        member = tarfile.TarInfo("val/happy/a.png")
        member.size = 150 << 20
        archive.addfile(member, open("/dev/zero", "rb"))


HUNGRY = {
    "xz dictionary": xz_dictionary,
    "global headers": mib_of_global_headers,
    "GNU holes": gnu_holes_without_end,
    "PAX holes": pax_holes_without_end,
}
SLOW_HUNGRY = {
    "bzip2 in a zip": bzip2_in_zip,
    "entries of a zip": zip_of_entries,
    "deep folders": deep_folders,
    "long member": member_of_gigabytes,
}

IN_LITTLE_MEMORY = """
import json, resource, sys
from pathlib import Path
from covpool.config import load_params
from covpool.datasets import DatasetError, fetch
import dataclasses
resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))
settings = dataclasses.replace(load_params().dataset, kind="folder", source=sys.argv[1])
try:
    ending = f"{len(fetch(settings, Path(sys.argv[2]), say=lambda text: None))} pictures"
except DatasetError as error:
    ending = str(error)
# ru_maxrss would include the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps([ending, int(peak) * 1024]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("name", [*HUNGRY, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_HUNGRY)])
def test_no_archive_takes_a_gigabyte_of_memory(tmp_path, name):
    """In a process whose address space is limited to 1 GB, with what Python and its libraries take of it."""
    {**HUNGRY, **SLOW_HUNGRY}[name](tmp_path / "archive")
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(tmp_path / "archive"), str(tmp_path / "raw")]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    ending, peak = json.loads(done.stdout.splitlines()[-1])
    assert peak < 10**9, (ending, peak)
    assert ending == "2 pictures" if name == "long member" else " is refused: " in ending or " is damaged " in ending
