"""Folders of pictures become data/raw: canonical names, a manifest with checksums, nothing mixed or lost in silence."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from covpool import artifacts
from covpool.classes import CANONICAL
from covpool.datasets import DatasetError, fetch
from covpool.params import load_params


def settings(source, kind="folder", classes=CANONICAL):
    import dataclasses

    return dataclasses.replace(load_params().dataset, kind=kind, source=str(source), classes=tuple(classes))


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 30, 3), np.uint8)).save(path)


@pytest.fixture
def sfew(tmp_path):
    """SFEW_100's layout, with the file names of the set."""
    number = 0
    for split in ("Train", "val"):
        for name in ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"):
            for index in range(2):
                number += 1
                picture(tmp_path / "SFEW_100" / split / name / "Film_{:03d}.png".format(index), number)
    (tmp_path / "SFEW_100" / "Train" / "Angry" / "Thumbs.db").write_bytes(b"x")
    return tmp_path / "SFEW_100"


def test_sfew_lands_by_split_and_canonical_class(sfew, tmp_path):
    rows = fetch(settings(sfew, "sfew_100"), tmp_path / "raw")
    assert len(rows) == 28 and [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    manifest = artifacts.read_csv(tmp_path / "raw" / "manifest.csv", artifacts.MANIFEST_COLUMNS)
    assert [row["path"] for row in manifest] == [row["path"] for row in rows]
    for row in manifest:
        copied, original = tmp_path / "raw" / row["path"], sfew / row["source"]
        assert copied.read_bytes() == original.read_bytes()
        assert row["sha256"] == hashlib.sha256(original.read_bytes()).hexdigest()
        assert row["path"].split("/")[:2] == [row["split"], row["class"]]
    assert {row["class"] for row in manifest} == set(CANONICAL)
    assert next(row for row in manifest if row["source"].startswith("val/Happy"))["class"] == "happiness"


def test_the_same_source_gives_the_same_bytes_and_old_pictures_go(sfew, tmp_path):
    (tmp_path / "raw" / "train" / "anger").mkdir(parents=True)
    (tmp_path / "raw" / "train" / "anger" / "old.png").write_bytes(b"x")
    fetch(settings(sfew), tmp_path / "raw")
    first = (tmp_path / "raw" / "manifest.csv").read_bytes()
    assert not (tmp_path / "raw" / "train" / "anger" / "old.png").exists()
    fetch(settings(sfew), tmp_path / "raw")
    assert (tmp_path / "raw" / "manifest.csv").read_bytes() == first


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda root: picture(root / "Train" / "Bored" / "a.png"), "unknown class 'Bored': known are anger/angry"),
        (lambda root: picture(root / "extra" / "Happy" / "a.png"), "extra is no split: wanted folders"),
        (lambda root: picture(root / "Train" / "happiness" / "Film_000.png"), "two pictures would be train/happiness/"),
        (lambda root: (root / "val").rename(root / ".hidden"), "has no pictures for val: wanted"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_it(sfew, tmp_path, spoil, message):
    spoil(sfew)
    with pytest.raises(DatasetError) as caught:
        fetch(settings(sfew), tmp_path / "raw")
    assert message in str(caught.value)


def test_missing_data_tells_the_layout_and_where_to_ask(tmp_path):
    with pytest.raises(DatasetError, match=r"no folder: wanted one laid out as Train\|val/<class>.*licence"):
        fetch(settings(tmp_path / "nowhere", "sfew_100"), tmp_path / "raw")


def test_other_classes_by_their_own_names(tmp_path):
    for split in ("training", "Validation", "TEST"):
        for name in ("Negative", "positive"):
            picture(tmp_path / "two" / split / name / "a.jpg")
    rows = fetch(settings(tmp_path / "two", classes=("negative", "positive")), tmp_path / "raw")
    assert sorted({(row["split"], row["class"]) for row in rows}) == [
        (split, name) for split in ("test", "train", "val") for name in ("negative", "positive")
    ]
