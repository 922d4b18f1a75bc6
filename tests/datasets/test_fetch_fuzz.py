"""Corrupted copies of real archives and tables: each gives pictures or the one clear error, and writes nowhere else.

360 inputs, always the same ones; the slow sweep has 6,000 more. Both print how they ended.
"""

import gzip
import io
import signal
import tarfile
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from covpool.datasets import DatasetError, fetch

INPUTS, SLOW_INPUTS = 60, 1000  # for each of the six formats
SECONDS = 60  # far beyond what any input takes: only a hang gets there


def members(picture, folder):
    data = picture(folder / "a.png")
    for split in ("train", "val"):
        for name in ("happy", "sad"):
            for number in range(2):
                yield f"set/{split}/{name}/{number}.png", data
    yield "set/long/" + "n" * 120 + "/notes.txt", b"notes"


def tar(entries, form):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as archive:
        for name, content in entries:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def zipped(entries):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(entries):
            archive.writestr(name, content, zipfile.ZIP_STORED if number % 2 else zipfile.ZIP_DEFLATED)
    return data.getvalue()


def table():
    rng = np.random.default_rng(0)
    rows = ["emotion,pixels,Usage"]
    for number, usage in enumerate(("Training", "PublicTest", "PrivateTest")):
        rows.append("{},{},{}".format(number, " ".join(map(str, rng.integers(0, 256, 2304))), usage))
    return "\n".join(rows).encode() + b"\n"


@pytest.fixture(scope="module")
def bases(picture, tmp_path_factory):
    """The sound bytes of each format, with what is to be done after their corruption."""
    folder = tmp_path_factory.mktemp("fuzz")
    entries = list(members(picture, folder))
    gnu = tar(entries, tarfile.GNU_FORMAT)
    labels = "".join(
        f"{split}_{number}.jpg {number % 7 + 1}\n" for split in ("train", "test") for number in range(35)
    ).encode()

    def rafdb(text):
        pictures = [
            ("Image/aligned/{}_aligned.jpg".format(line.split(".")[0]), b"x") for line in labels.decode().splitlines()
        ]
        return zipped([("EmoLabel/list_patition_label.txt", text), *pictures])

    return folder, {
        "zip": ("folder", zipped(entries), bytes),
        "tar": ("folder", gnu, bytes),
        "tar inside gzip": ("folder", tar(entries, tarfile.PAX_FORMAT), lambda data: gzip.compress(data, 1)),
        "gzip": ("folder", gzip.compress(gnu), bytes),
        "table": ("fer2013", table(), bytes),
        "list": ("rafdb", labels, rafdb),
    }


#: Where, as a share of the whole; how many bytes; what: bytes put there, cut out, or copied from elsewhere.
CORRUPTIONS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from((1, 1, 1, 2, 4, 8, 64, 512)),
        st.one_of(st.binary(min_size=1, max_size=8), st.just("cut"), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=4,
)


def corrupted(data, corruptions):
    for where, length, what in corruptions:
        place = int(where * len(data))
        if what == "cut":
            new = b""
        elif isinstance(what, float):
            new = data[int(what * len(data)) :][:length]
        else:
            new = what
        data = data[:place] + new + data[place + (length if what == "cut" else len(new)) :]
    return data


@contextmanager
def no_hang():
    def late(*_):
        raise AssertionError(f"an input took longer than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("inputs", [INPUTS, pytest.param(SLOW_INPUTS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["zip", "tar", "tar inside gzip", "gzip", "table", "list"])
def test_corrupted_sources_give_pictures_or_the_clear_error(bases, settings, form, inputs):
    folder, sound = bases
    kind, base, finish = sound[form]
    ends = {"pictures": 0, "error": 0}
    source = folder / "source.csv"

    def run(data):
        source.write_bytes(finish(data))
        before = set(folder.iterdir())
        try:
            with no_hang():
                rows = fetch(settings(source, kind), folder / "raw", say=lambda text: None)
            assert all((folder / "raw" / row["path"]).is_file() for row in rows)
            ends["pictures"] += 1
        except DatasetError as error:
            assert str(source) in str(error) or "source.csv:" in str(error)
            ends["error"] += 1
        assert set(folder.iterdir()) - {folder / "raw"} == before - {folder / "raw"}

    run(base)
    assert ends == {"pictures": 1, "error": 0}

    @profile(
        max_examples=inputs,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(CORRUPTIONS)
    def corrupt(corruptions):
        run(corrupted(base, corruptions))

    corrupt()
    # Both ends were reached, and as many inputs as the text above says.
    assert ends["pictures"] > 1 and ends["error"] > 10 and sum(ends.values()) > inputs
    print(f"{form}: {ends}")
