"""Archives: the same pictures as from a folder, and each kind of hostile one refused by its member's name."""

import hashlib
import io
import os
import tarfile
import tracemalloc
import zipfile

import pytest

from covpool.config import load_params
from covpool.datasets import DatasetError, archives, fetch
from covpool.datasets.sources import open_source
from tests.datasets.test_fetch_hostile import tar_of, zip_of

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
    assert f"{packed} has the SHA-256 {sha256}; set dataset.sha256 to this value to check it" in said
    assert fetch(settings(packed, "sfew_100", sha256=sha256), tmp_path / "other", say=said.append) == rows
    with pytest.raises(DatasetError, match="{}, but dataset.sha256 is {}".format(sha256, "0" * 64)):
        fetch(settings(packed, "sfew_100", sha256="0" * 64), tmp_path / "other", say=said.append)
    with pytest.raises(DatasetError, match="is a folder, which has no SHA-256"):
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
