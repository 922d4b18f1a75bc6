"""Folders of pictures become data/raw: canonical names, a manifest with checksums, nothing mixed or lost in silence."""

import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covpool.config.vocabulary import CANONICAL
from covpool.datasets import DatasetError, fetch
from covpool.datasets.layouts import RAFDB_LABELS
from covpool.datasets.local_source import missing_source
from covpool.pipeline import artifacts


def run(settings, tmp_path):
    """Fetch into tmp_path/raw: the rows, and what was said."""
    said = []
    rows = fetch(settings, tmp_path / "raw", say=said.append)
    return rows, "\n".join(said)


def refusal(settings, tmp_path):
    with pytest.raises(DatasetError) as caught:
        fetch(settings, tmp_path / "raw", say=lambda text: None)
    assert not (tmp_path / "raw").exists()
    return str(caught.value)


def test_sfew_lands_by_split_and_canonical_class(sfew, tmp_path, settings):
    rows, said = run(settings(sfew, "sfew_100"), tmp_path)
    assert len(rows) == 28 and [row["path"] for row in rows] == sorted(row["path"] for row in rows) and said == ""
    manifest = artifacts.read_csv(tmp_path / "raw" / "manifest.csv", artifacts.MANIFEST_COLUMNS)
    assert [row["path"] for row in manifest] == [row["path"] for row in rows]
    for row in manifest:
        copied, original = tmp_path / "raw" / row["path"], sfew / row["source"]
        assert copied.read_bytes() == original.read_bytes()
        assert row["sha256"] == hashlib.sha256(original.read_bytes()).hexdigest()
        assert row["path"].split("/")[:2] == [row["split"], row["class"]]
    assert {row["class"] for row in manifest} == set(CANONICAL)
    assert next(row for row in manifest if row["source"].startswith("val/Happy"))["class"] == "happiness"


def test_the_same_source_gives_the_same_bytes_and_old_pictures_go(sfew, tmp_path, settings):
    (tmp_path / "raw" / "train" / "anger").mkdir(parents=True)
    (tmp_path / "raw" / "train" / "anger" / "old.png").write_bytes(b"x")
    run(settings(sfew), tmp_path)
    first = (tmp_path / "raw" / "manifest.csv").read_bytes()
    assert not (tmp_path / "raw" / "train" / "anger" / "old.png").exists()
    run(settings(sfew), tmp_path)
    assert (tmp_path / "raw" / "manifest.csv").read_bytes() == first


@pytest.mark.parametrize(
    "kind, spoil, message",
    [
        (
            "folder",
            lambda root, picture: picture(root / "Train/Bored/a.png"),
            "unknown class 'Bored': expected one of ang",
        ),
        ("folder", lambda root, picture: picture(root / "extra/Happy/a.png"), "extra is not a split: expected folders"),
        ("folder", lambda root, picture: picture(root / "Train/a.png"), "Train/a.png does not lie at <split>/<class>/"),
        ("folder", lambda root, picture: picture(root / "a.png"), "a.png does not lie at <split>/<class>/"),
        ("folder", lambda root, picture: picture(root / "val/Sad/x.png/y.png"), "val/Sad/x.png/y.png does not lie at"),
        ("folder", lambda root, picture: (root / "val/x").symlink_to("nowhere"), "val/x is a broken link"),
        ("folder", lambda root, picture: (root / "val/x").symlink_to(".."), "remove the link"),
        ("folder", lambda root, picture: os.mkfifo(root / "val/Sad/x.png"), "x.png is not a file"),
        ("folder", lambda root, picture: (root / "Train").rename(root / ".hidden"), "has no pictures for train: exp"),
        (
            "sfew_100",
            lambda root, picture: (root / "val").rename(root / ".val"),
            "has no pictures for val: expected",
        ),
        ("sfew_100", lambda root, picture: shutil.rmtree(root / "Train"), "SFEW is given to researchers who sign"),
        ("sfew", lambda root, picture: picture(root / "faces/Happy/a.png"), "faces is not a split"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_it(sfew, tmp_path, settings, picture, kind, spoil, message):
    spoil(sfew, picture)
    assert message in refusal(settings(sfew, kind), tmp_path)


def test_a_name_that_is_not_utf8_is_named(sfew, tmp_path, settings):
    shutil.copy(sfew / "val/Sad/Film_000.png", os.fsencode(sfew) + b"/val/Sad/\xff.png")
    assert r"'val/Sad/\udcff.png': its name is not UTF-8; rename it" in refusal(settings(sfew), tmp_path)


def test_clutter_is_counted_and_other_files_are_named(sfew, tmp_path, settings, picture):
    """What an operating system leaves is no picture, whatever its ending; a text file among the pictures is told."""
    for name in ("Train/Angry/Thumbs.db", "Train/.DS_Store", "val/Sad/._Film_000.png", ".git/Happy/a.png"):
        (sfew / name).parent.mkdir(parents=True, exist_ok=True)
        (sfew / name).write_bytes(picture(tmp_path / "any.png"))
    picture(sfew / "__MACOSX" / "Train" / "Happy" / "a.png")
    (sfew / "readme.txt").write_text("x")
    (sfew / "val" / "Sad" / "empty.png").mkdir()
    rows, said = run(settings(sfew, "sfew_100"), tmp_path)
    assert len(rows) == 28
    assert "5 hidden or system files were skipped: '.git', 'Train/.DS_Store', 'Train/Angry/Thumbs.db', " in said
    assert "1 files without the extension of a picture were skipped: 'readme.txt'" in said


def test_a_picture_that_nobody_can_read_is_left_to_validation(sfew, tmp_path, settings):
    (sfew / "val" / "Sad" / "photo.HEIC").write_bytes(b"x")
    rows, _ = run(settings(sfew), tmp_path)
    assert "val/sadness/photo.HEIC" in [row["path"] for row in rows]


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_arrays_are_never_unpickled(sfew, tmp_path, settings):
    trap = np.empty(1, object)
    trap[0] = Trap(tmp_path / "sprung")
    np.save(sfew / "Train" / "Happy" / "features.npy", trap, allow_pickle=True)
    (sfew / "Train" / "Happy" / "x.png").write_bytes(pickle.dumps(trap[0]))
    rows, said = run(settings(sfew), tmp_path)
    assert not (tmp_path / "sprung").exists() and "'Train/Happy/features.npy'" in said and len(rows) == 29
    pickle.loads((tmp_path / "raw/train/happiness/x.png").read_bytes())
    assert (tmp_path / "sprung").exists()  # the trap works


def test_missing_data_tells_the_layout_and_where_to_ask(tmp_path, settings):
    for kind, page in [
        ("sfew_100", "cs.anu.edu.au/few"),
        ("sfew", "cs.anu.edu.au/few"),
        ("rafdb", "whdeng.cn/RAF"),
        ("fer2013", "kaggle.com"),
    ]:
        message = refusal(settings(tmp_path / "nowhere", kind), tmp_path)
        assert "nowhere does not exist: expected " in message and page in message
        assert message == missing_source(settings(tmp_path / "nowhere", kind))
    assert missing_source(settings(tmp_path)) == ""
    (tmp_path / "empty").mkdir()
    assert "empty has no pictures: expected train|val[|test]/" in refusal(settings(tmp_path / "empty"), tmp_path)


def test_folders_of_no_class_name_the_classes_that_are_there(sfew, tmp_path, settings, picture):
    picture(sfew / "Train/Bored/a.png")
    found = "[Bored, anger, disgust, fear, happiness, neutral, sadness, surprise]"
    assert f"set dataset.classes={found}." in refusal(settings(sfew), tmp_path)
    rows, _ = run(settings(sfew, classes=found.strip("[]").split(", ")), tmp_path)
    assert len(rows) == 29
    picture(sfew / "Train/Not a name!/a.png")
    message = refusal(settings(sfew), tmp_path)
    assert "unknown class 'Bored'" in message and "set dataset.classes" not in message


def test_pictures_of_one_class_with_one_name_are_all_kept(sfew, tmp_path, settings, picture):
    """Folders that mean one class may share file names."""
    joy = picture(sfew / "Train/joy/Film_000.png", 99)
    picture(sfew / "Train/Happy/Film_000-joy.png", 98)
    (sfew / "Train" / "joy" / ("n" * 250 + ".png")).write_bytes(joy)
    (sfew / "Train" / "Happy" / ("n" * 250 + ".png")).write_bytes(joy)
    rows, said = run(settings(sfew, "sfew_100"), tmp_path)
    assert len(rows) == 32 and len({row["path"] for row in rows}) == 32
    paths = {row["source"]: row["path"] for row in rows}
    assert paths["Train/Happy/Film_000.png"] == "train/happiness/Film_000.png"
    assert paths["Train/Happy/Film_000-joy.png"] == "train/happiness/Film_000-joy.png"
    assert paths["Train/joy/Film_000.png"] == "train/happiness/Film_000-joy-2.png"
    assert (tmp_path / "raw" / paths["Train/joy/Film_000.png"]).read_bytes() == joy
    assert "2 pictures were renamed" in said and "'Train/joy/Film_000.png -> train/happiness/" in said
    assert run(settings(sfew, "sfew_100"), tmp_path)[0] == rows


def test_other_classes_by_their_own_names(tmp_path, settings, picture):
    for split in ("training", "Validation", "TEST"):
        for name in ("Negative", "positive"):
            picture(tmp_path / "two" / split / name / "a.jpg")
    rows, _ = run(settings(tmp_path / "two", classes=("negative", "positive")), tmp_path)
    assert sorted({(row["split"], row["class"]) for row in rows}) == [
        (split, name) for split in ("test", "train", "val") for name in ("negative", "positive")
    ]


def test_names_of_any_script_reach_files_and_manifest(tmp_path, settings, picture):
    names = ("радость", "怒り", "हँसी")
    for split in ("train", "val"):
        for name in names:
            picture(tmp_path / "set" / split / name / "Фото 1.png")
    rows, _ = run(settings(tmp_path / "set", classes=names), tmp_path)
    assert len(rows) == 6 and {row["class"] for row in rows} == set(names)
    for row in artifacts.read_csv(tmp_path / "raw" / "manifest.csv"):
        assert (tmp_path / "raw" / row["path"]).is_file() and row["path"].endswith("/Фото 1.png")


def test_folders_above_the_layout_do_not_matter(sfew, tmp_path, settings):
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    sfew.rename(tmp_path / "outer" / "inner" / "SFEW")
    rows, _ = run(settings(tmp_path / "outer", "sfew_100"), tmp_path)
    assert len(rows) == 28 and rows[0]["source"] == "inner/SFEW/Train/Angry/Film_000.png"


def test_sfew_says_that_its_test_pictures_have_no_labels(sfew, tmp_path, settings, picture):
    (sfew / "val").rename(sfew / "Val")
    picture(sfew / "Test" / "Film_900.png")
    rows, said = run(settings(sfew, "sfew"), tmp_path)
    assert len(rows) == 28 and "1 pictures of the test split were skipped" in said
    assert "without the name" not in said


def test_classes_without_splits_are_split_by_the_seed(tmp_path, settings, picture):
    for name in ("happy", "sad"):
        for number in range(10):
            picture(tmp_path / "set" / name / f"{number}.png")
    rows, said = run(settings(tmp_path / "set", split={"val": 0.2, "test": 0.1}), tmp_path)
    counts = {split: [row["class"] for row in rows if row["split"] == split] for split in artifacts.SPLITS}
    assert {split: (names.count("happiness"), names.count("sadness")) for split, names in counts.items()} == {
        "train": (7, 7),
        "val": (2, 2),
        "test": (1, 1),
    }
    assert "split by dataset.split.seed: 14 train, 4 val, 2 test; no subjects were found" in said
    again, _ = run(settings(tmp_path / "set", split={"val": 0.2, "test": 0.1}), tmp_path)
    other, _ = run(settings(tmp_path / "set", split={"val": 0.2, "test": 0.1, "seed": 1}), tmp_path)
    assert rows == again != other


def test_a_subject_that_the_name_tells_stays_in_one_split(tmp_path, settings, picture):
    for name in ("happy", "sad"):
        for subject in range(10):
            for take in range(2):
                picture(tmp_path / "set" / name / f"S{subject:03d}_{take}.png")
    rows, said = run(settings(tmp_path / "set", split={"val": 0.3}), tmp_path)
    assert "10 subjects, read from the names of 40 of 40 pictures, stay together" in said
    splits = {
        subject: {row["split"] for row in rows if row["subject"] == subject}
        for subject in {row["subject"] for row in rows}
    }
    assert len(splits) == 10 and all(len(found) == 1 for found in splits.values())
    assert sum(row["split"] == "val" for row in rows) == 12
    rows, _ = run(settings(tmp_path / "set", split={"subject": r"^s\d\d(\d)_"}), tmp_path)
    assert {row["subject"] for row in rows} == set("0123456789")


def test_too_few_to_split_is_an_error(tmp_path, settings, picture):
    for name in ("happy", "sad"):
        picture(tmp_path / "set" / name / "a.png")
    assert "there are too few pictures (2) or too few subjects to take dataset.split.val of each class" in refusal(
        settings(tmp_path / "set"), tmp_path
    )


def test_val_is_taken_from_train_where_there_is_only_a_test(tmp_path, settings, picture):
    for split, number in (("train", 10), ("test", 3)):
        for name in ("happy", "sad"):
            for index in range(number):
                picture(tmp_path / "set" / split / name / f"{index}.png")
    rows, said = run(settings(tmp_path / "set"), tmp_path)
    assert "16 train, 4 val" in said
    assert [sum(row["split"] == split for row in rows) for split in artifacts.SPLITS] == [16, 4, 6]
    assert all(row["source"].startswith("test/") == (row["split"] == "test") for row in rows)


@pytest.fixture
def rafdb(tmp_path, picture):
    """RAF-DB basic with ten pictures a label in train and two in test."""
    lines = []
    for split, number in (("train", 70), ("test", 14)):
        for index in range(number):
            picture(tmp_path / f"basic/Image/aligned/{split}_{index:05d}_aligned.jpg", index)
            lines.append(f"{split}_{index:05d}.jpg {index % 7 + 1}")
    (tmp_path / "basic" / "EmoLabel").mkdir()
    (tmp_path / "basic/EmoLabel/list_patition_label.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "basic"


def test_rafdb_by_its_list(rafdb, tmp_path, settings):
    (rafdb / "Image" / "aligned" / "stray.jpg").write_bytes(b"x")
    rows, said = run(settings(rafdb, "rafdb"), tmp_path)
    assert [sum(row["split"] == split for row in rows) for split in artifacts.SPLITS] == [56, 14, 14]
    names = "surprise fear disgust happiness sadness anger neutral".split()
    for row in rows:
        number = int(row["source"].split("_")[1])
        assert row["class"] == names[number % 7]
    assert "1 pictures that are not in the list were skipped: 'Image/aligned/stray.jpg'" in said
    assert "56 train, 14 val" in said
    assert sorted(RAFDB_LABELS.values()) == list(CANONICAL)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda root: (root / "EmoLabel/list_patition_label.txt").write_text("train_00001.jpg 8\n"),
            "list_patition_label.txt:1: expected a name train_NNNNN.jpg or test_NNNNN.jpg and a label",
        ),
        (
            lambda root: (root / "EmoLabel/list_patition_label.txt").write_text("../train_1.jpg 1\n"),
            ":1: expected a ",
        ),
        (
            lambda root: (root / "EmoLabel/list_patition_label.txt").open("a").write("test_00013.jpg 2\n"),
            "list_patition_label.txt: test_00013.jpg is listed twice, in lines 84 and 85",
        ),
        (lambda root: (root / "EmoLabel/list_patition_label.txt").write_bytes(b"\xff"), "is not UTF-8 text"),
        (lambda root: (root / "EmoLabel/list_patition_label.txt").unlink(), "has no list: expected EmoLabel/list_"),
        (
            lambda root: (root / "Image/aligned/test_00003_aligned.jpg").unlink(),
            "1 pictures of the list are missing, the first is Image/aligned/test_00003_aligned.jpg",
        ),
        (
            lambda root: (shutil.rmtree(root / "Image/aligned"), (root / "Image/aligned.zip").write_bytes(b"")),
            "84 pictures of the list are missing, the first is Image/aligned/train_00000_aligned.jpg: unpack Image/",
        ),
    ],
)
def test_rafdb_that_does_not_fit(rafdb, tmp_path, settings, spoil, message):
    spoil(rafdb)
    assert message in refusal(settings(rafdb, "rafdb"), tmp_path)


def test_the_drawn_set_has_just_the_classes_that_are_asked_for(tmp_path, settings):
    import dataclasses

    from covpool import rendered

    asked = settings("covpool/rendered", "rendered", classes=("joy", "sadness"))
    asked = dataclasses.replace(
        asked, rendered=dataclasses.replace(asked.rendered, train=1, val=1, test=0, image_size=64)
    )
    rows, _ = run(asked, tmp_path)
    assert [row["path"] for row in rows] == [
        "train/joy/id0000_happiness_0.png",
        "train/sadness/id0000_sadness_0.png",
        "val/joy/id0001_happiness_0.png",
        "val/sadness/id0001_sadness_0.png",
    ]
    assert sorted(path.name for path in (tmp_path / "raw").glob("*/*")) == ["joy", "joy", "sadness", "sadness"]
    drawn = np.asarray(Image.open(tmp_path / "raw" / rows[0]["path"]))
    alone = rendered.render_face(0, "happiness", image_size=64, seed=asked.rendered.seed).image
    assert np.array_equal(drawn, alone)
    assert rows[0]["sha256"] == artifacts.sha256_file(tmp_path / "raw" / rows[0]["path"])
