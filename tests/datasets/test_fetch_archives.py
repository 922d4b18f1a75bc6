"""Archives: the same pictures as from a folder, and each kind of hostile one refused by its member's name."""

import hashlib
import io
import itertools
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from covpool.config import load_params
from covpool.datasets import DatasetError, archives, fetch
from covpool.datasets.sources import open_source

LIMITS = load_params().dataset.limits
SUFFIXES = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")


def pack(folder, path, top="SFEW_100"):
    """Pack a folder as the ending of `path` says, with Python's own writers."""
    files = sorted(item for item in folder.rglob("*") if item.is_file())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, f"{top}/{file.relative_to(folder)}")
    else:
        with tarfile.open(path, "w:" + path.suffix[1:].replace("tar", "")) as archive:
            archive.add(folder, top)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_gives_what_its_folder_gives(sfew, tmp_path, settings, suffix):
    (sfew / "val" / "Sad" / "nested.zip").write_bytes(b"PK\x03\x04")
    said = []
    from_folder = fetch(settings(sfew, "sfew_100"), tmp_path / "raw", say=said.append)
    # The ending of the name does not matter: the first bytes tell.
    packed = pack(sfew, tmp_path / ("set." + suffix)).rename(tmp_path / "download")
    rows = fetch(settings(packed, "sfew_100"), tmp_path / "other", say=said.append)
    assert [dict(row, source="SFEW_100/" + row["source"]) for row in from_folder] == rows
    for row in rows:
        assert (tmp_path / "raw" / row["path"]).read_bytes() == (tmp_path / "other" / row["path"]).read_bytes()
    # An archive in an archive is a file that is no picture: told, never opened.
    assert len([line for line in said if "val/Sad/nested.zip'" in line]) == 2
    sha256 = hashlib.sha256(packed.read_bytes()).hexdigest()
    assert f"{packed} has the SHA-256 {sha256}; dataset.sha256 would check it" in said
    assert fetch(settings(packed, "sfew_100", sha256=sha256), tmp_path / "other", say=said.append) == rows
    with pytest.raises(DatasetError, match="{}, but dataset.sha256 is {}".format(sha256, "0" * 64)):
        fetch(settings(packed, "sfew_100", sha256="0" * 64), tmp_path / "other", say=said.append)
    with pytest.raises(DatasetError, match="is a folder, which has no sum"):
        fetch(settings(sfew, "sfew_100", sha256=sha256), tmp_path / "other", say=said.append)


def test_paths_with_dots_of_tar_are_plain(sfew, tmp_path, settings):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(sfew, ".")
    rows = fetch(settings(tmp_path / "set.tar"), tmp_path / "raw")
    assert len(rows) == 28 and rows[0]["source"] == "Train/Angry/Film_000.png"


def test_a_table_in_an_archive(tmp_path, settings):
    row = "3,{},{}".format(" ".join(["7"] * 2304), "{}")
    text = "emotion,pixels,Usage\n{}\n{}\n".format(row.format("Training"), row.format("PublicTest"))
    with tarfile.open(tmp_path / "fer2013.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("fer2013/fer2013.csv")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    rows = fetch(settings(tmp_path / "fer2013.tar.gz", "fer2013"), tmp_path / "raw")
    assert [row["split"] for row in rows] == ["train", "val"]


# Hostile archives. Each maker writes one at `path` around good pictures; the refusal must name the member.


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
    "zip file and folder": (zip_named("train/happy"), "'train/happy' is refused: a file and a folder have one name"),
    "zip below a file": (zip_named("train/happy/a.png/b"), "/b' is refused: a file and a folder have one name"),
    "zip accents": (
        lambda path: zip_of(path, ("train/h/é.png", b"x"), ("train/h/e\u0301.png", b"x")),
        "' is refused: it differs from 'train/h/é.png' only by case or accents",
    ),
    "zip not UTF-8": (zip_not_utf8, "is refused: its name is not UTF-8; pack the archive again"),
    "zip encrypted": (zip_patched(set_bytes(8, b"\x01")), "'train/happy/odd.png' is refused: it is encrypted"),
    "zip method": (zip_patched(set_bytes(10, b"\x0e")), "its compression method 14 is not known here"),
    "zip longer than said": (zip_patched(lambda data: set_size(data, 10)), "at 'train/happy/odd.png' (Bad CRC-32"),
    "zip shorter than said": (zip_patched(lambda data: set_size(data, 5000)), "odd.png' is refused: it is not as long"),
    "zip other name inside": (
        zip_patched(lambda data: bytes(data).replace(b"odd.png", b"abc.png", 1)),
        "is damaged at 'train/happy/odd.png'",
    ),
    "zip ratio": (
        lambda path: zip_of(path, ("train/happy/odd.png", bytes(8 << 20))),
        "'train/happy/odd.png' is refused: it unpacks to more than dataset.limits.max_ratio (200) times its size",
    ),
    "zip overlapping": (overlapping_zip, "png' is refused: it unpacks to more than dataset.limits.max_ratio (200)"),
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


@pytest.mark.parametrize(
    "limits, message",
    [
        (dict(max_archive_bytes=1000), "bytes, more than dataset.limits.max_archive_bytes (1000)"),
        (dict(max_unpacked_bytes=10000), "all files have more bytes than dataset.limits.max_unpacked_bytes (10000)"),
        (dict(max_file_bytes=100), "bytes are more than dataset.limits.max_file_bytes (100)"),
        (dict(max_files=20), "more files than dataset.limits.max_files (20)"),
    ],
)
@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_the_limits_are_parameters(sfew, tmp_path, settings, limits, message, suffix):
    packed = pack(sfew, tmp_path / ("set." + suffix))
    with pytest.raises(DatasetError) as caught:
        fetch(settings(packed, limits=limits), tmp_path / "raw", say=lambda text: None)
    assert message in str(caught.value)
    if "max_files" in limits:
        with pytest.raises(DatasetError, match="has more files than"):
            fetch(settings(sfew, limits=limits), tmp_path / "raw", say=lambda text: None)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cut_archive_is_damaged_wherever_it_was_cut(sfew, tmp_path, settings, suffix):
    whole = pack(sfew, tmp_path / ("set." + suffix)).read_bytes()
    for share in (0.02, 0.3, 0.7, 0.95):
        (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DatasetError, match="is damaged"):
            fetch(settings(tmp_path / "cut"), tmp_path / "raw", say=lambda text: None)
        assert not (tmp_path / "raw").exists()


def test_a_tar_cut_between_two_members_is_noticed(sfew, tmp_path, settings):
    with tarfile.open(pack(sfew, tmp_path / "set.tar")) as archive:
        last = archive.getmembers()[-1]
    whole = (tmp_path / "set.tar").read_bytes()
    (tmp_path / "set.tar").write_bytes(whole[: last.offset])
    with pytest.raises(DatasetError, match="what follows is neither a header nor the end mark"):
        fetch(settings(tmp_path / "set.tar"), tmp_path / "raw", say=lambda text: None)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_what_follows_a_tars_end_is_refused(sfew, tmp_path, settings, suffix):
    first = pack(sfew, tmp_path / ("a." + suffix))
    first.write_bytes(2 * first.read_bytes())
    with pytest.raises(DatasetError, match="something follows the archive's end mark"):
        fetch(settings(first, "sfew_100"), tmp_path / "raw")


def test_memory_does_not_grow_with_a_member(tmp_path, settings):
    """A file of 64 MiB in each kind of archive is read in a few blocks' memory."""
    big = os.urandom(1 << 20) * 64
    zip_of(tmp_path / "zip", ("train/happy/a.png", big))
    tar_of(tmp_path / "tar", ("train/happy/big.png", big))
    del big
    for name in ("zip", "tar"):
        tracemalloc.start()
        source = open_source(tmp_path / name, LIMITS)
        total = 0
        for _, stream in source.read_files(set(source.files())):
            for block in iter(lambda: stream.read(1 << 20), b""):  # noqa: B023
                total += len(block)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        source.close()
        assert total >= 64 << 20 and peak < 12 << 20, (name, peak)


def test_a_tar_is_read_in_one_pass_forwards(tmp_path, monkeypatch):
    """Also where members end on a block: stepping back in gzip would start it anew for each."""
    members = [(f"train/happy/{number}.png", os.urandom(512 * 40)) for number in range(60)]
    tar_of(tmp_path / "tar", *members)
    read = []

    class Counting(io.FileIO):
        def readinto(self, buffer):
            number = super().readinto(buffer)
            read.append(number)
            return number

    monkeypatch.setattr(archives, "open", lambda path, mode: io.BufferedReader(Counting(path)), raising=False)
    archive = archives.TarArchive(tmp_path / "tar", LIMITS)
    found = {name: stream.read() for name, stream in archive.read_files(set(archive.files()))}
    assert [found[name] for name, _ in members] == [data for _, data in members]
    # One pass to list and one to read, and each looks at the beginning to see how the tar is packed.
    assert sum(read) <= 2 * ((tmp_path / "tar").stat().st_size + io.DEFAULT_BUFFER_SIZE)
