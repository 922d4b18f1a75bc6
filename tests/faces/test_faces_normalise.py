"""The stage as a whole: order, bytes, fallbacks, the cache, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covpool.faces import (
    DetectorMissing,
    NormaliseError,
    PictureError,
    align,
    decode_picture,
    describe,
)
from covpool.pipeline import artifacts
from tests.faces.stage import CLASSES, content, normalise, table


def test_arrays_tables_and_classes_say_the_same(faces):
    folder, counts = normalise(faces)
    assert sorted(content(folder)) == ["classes.json", "train.csv", "train.npy", "val.csv", "val.npy"]
    assert json.loads((folder / "classes.json").read_text()) == list(CLASSES)
    for split in ("train", "val"):
        array = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        wanted = [row for row in faces.rows if row["split"] == split]
        rows = table(folder, split)
        assert array.dtype == np.uint8 and array.shape == (len(wanted), 46, 46, 3)
        assert [row["source"] for row in rows] == [row["path"] for row in wanted]
        assert [row["sha256"] for row in rows] == [row["sha256"] for row in wanted]
        assert [CLASSES[int(row["label"])] for row in rows] == [row["class"] for row in wanted]
        assert {row["method"] for row in rows} == {"mtcnn"}
        assert counts[split]["all"] == {"found": len(wanted), "aligned": 0, "fallback": 0, "dropped": 0}
    assert counts["train"]["anger"]["found"] == sum(row["class"] == "anger" for row in table(folder, "train"))


def test_a_crop_can_be_made_again_from_its_row(faces):
    folder, _ = normalise(faces)
    array = np.load(folder / "train.npy")
    for crop, row in zip(array, table(folder, "train"), strict=True):
        landmarks = np.array([float(row[column]) for column in artifacts.LANDMARK_COLUMNS]).reshape(5, 2)
        picture = decode_picture((faces.images / row["source"]).read_bytes(), row["source"])
        np.testing.assert_array_equal(align(picture, landmarks, 40, 3), crop)


def test_bytes_do_not_depend_on_the_workers_nor_on_the_cache(faces):
    first, counts = normalise(faces, "one")
    for name, options in {
        "many": {"workers": 3, "cache": faces.root / "cache"},
        "cached": {"workers": 2, "cache": faces.root / "cache"},
    }.items():
        folder, again = normalise(faces, name, **options)
        assert content(folder) == content(first) and again == counts
        assert content(faces.root / f"{name}_sheets") == content(faces.root / "one_sheets")


def test_only_new_pictures_are_detected(dataset, scored, scripted):
    dataset.add("train/anger/a.png", scored(255))
    dataset.add("train/anger/none.png", scored(0))
    cache = dataset.root / "cache"
    normalise(dataset, cache=cache)
    looks = scripted.looked
    assert looks == 1 + 3, "the picture without a face is looked at upright and turned both ways"
    first, _ = normalise(dataset, "again", cache=cache)
    assert scripted.looked == looks, "both are known, the one without a face too"
    normalise(dataset, "other", cache=cache, size=20, margin=0, min_score=0.5, fallback="drop")
    assert scripted.looked == looks, "nothing that the detector does not see may matter"
    dataset.add("train/surprise/same.png", scored(255))
    dataset.add("train/anger/new.png", scored(254))
    normalise(dataset, "more", cache=cache)
    assert scripted.looked == looks + 1, "the same picture under another name is known; the new one is not"
    for path in cache.rglob("*.json"):
        path.write_bytes(path.read_bytes()[:-20])
    damaged, _ = normalise(dataset, "damaged", cache=cache)
    assert scripted.looked == 2 * (looks + 1)
    assert content(damaged) == content(dataset.root / "more")


def test_without_a_cache_every_run_detects(dataset, scored, scripted):
    dataset.add("train/anger/a.png", scored(255))
    for _ in range(2):
        normalise(dataset)
    assert scripted.looked == 2


@pytest.fixture
def doubtful(dataset, scored, scripted):
    """One sure face, one doubtful, one picture without any, in this order."""
    for name, score in (("a_sure", 250), ("b_doubtful", 204), ("c_none", 0)):
        dataset.add(f"train/anger/{name}.png", scored(score))
    return dataset


def test_fallback_center_takes_the_largest_central_square(doubtful):
    ramp = np.tile(np.arange(180, dtype=np.uint8)[None, :, None], (100, 1, 3))
    doubtful.add("train/anger/d_wide.png", ramp)
    folder, counts = normalise(doubtful, size=50, margin=0)
    assert counts["train"]["anger"] == {"found": 1, "aligned": 0, "fallback": 3, "dropped": 0}
    rows = table(folder, "train")
    assert [row["method"] for row in rows] == ["mtcnn", "center", "center", "center"]
    assert [row["score"] for row in rows] == ["0.980392", "0.800000", "", ""]
    assert [rows[3][f"box_{key}"] for key in "xywh"] == ["40.000", "0.000", "100.000", "100.000"]
    assert all(rows[number][column] == "" for number in (1, 2, 3) for column in artifacts.LANDMARK_COLUMNS)
    # The ramp from 40 to 140 in 50 steps: each pixel is the mean of two.
    crop = np.load(folder / "train.npy")[3].astype(float)
    np.testing.assert_allclose(crop[:, 1:-1, 0], np.tile(40.5 + 2 * np.arange(1, 49), (50, 1)), atol=1)


def test_fallback_drop_leaves_pictures_out_of_array_and_table(doubtful):
    folder, counts = normalise(doubtful, fallback="drop")
    assert counts["train"]["anger"] == {"found": 1, "aligned": 0, "fallback": 0, "dropped": 2}
    assert np.load(folder / "train.npy").shape == (1, 46, 46, 3)
    assert [Path(row["source"]).name for row in table(folder, "train")] == ["a_sure.png"]


def test_fallback_drop_of_a_whole_split_is_an_error(doubtful, scored):
    doubtful.add("val/anger/none.png", scored(0) // 2)
    with pytest.raises(NormaliseError, match="no face was found in any picture of split val"):
        normalise(doubtful, fallback="drop")
    assert content(doubtful.root / "faces") == {}


def test_fallback_fail_names_the_first_picture_and_its_score(doubtful):
    with pytest.raises(NormaliseError, match=r"b_doubtful\.png: expected .* least 0\.9, but the best face has 0\.8"):
        normalise(doubtful, fallback="fail")
    assert content(doubtful.root / "faces") == {}


def test_min_score_decides_what_counts_as_found(doubtful):
    _, counts = normalise(doubtful, min_score=0.8)
    assert counts["train"]["anger"] == {"found": 2, "aligned": 0, "fallback": 1, "dropped": 0}


def test_detector_none_takes_aligned_pictures_as_they_are(dataset, noise):
    square = noise(1)[:40, :40]
    dataset.add("train/anger/square.png", square)
    dataset.add("train/anger/grey.png", square[..., 0])
    folder, counts = normalise(dataset, detector="none")
    array, rows = np.load(folder / "train.npy"), table(folder, "train")
    np.testing.assert_array_equal(array[0, 3:-3, 3:-3], square)
    np.testing.assert_array_equal(array[1, 3:-3, 3:-3], np.repeat(square[..., :1], 3, axis=2))
    assert rows[0]["method"] == "none" and rows[0]["score"] == "" and rows[0]["left_eye_x"] == ""
    assert counts["train"]["all"] == {"found": 0, "aligned": 2, "fallback": 0, "dropped": 0}
    assert describe(counts["train"]["all"]) == (
        "2 pictures taken as aligned faces without a search (normalise.detector: none)"
    )


@pytest.mark.parametrize(
    ("side", "extent"),
    [(20, 40), (40, 40), (43, 43), (46, 46), (92, 46)],
    ids=["smaller: enlarged to the frame", "the frame's", "between: as it is", "with the margin", "larger: reduced"],
)
def test_detector_none_fills_the_margin_with_what_the_picture_has_there(dataset, side, extent):
    """A ramp to the right whose slope and extent in the crop tell how large the picture is shown."""
    ramp = np.repeat(np.linspace(0, 240, side).astype(np.uint8)[None, :, None], side, 0).repeat(3, 2)
    dataset.add("train/anger/a.png", ramp)
    folder, _ = normalise(dataset, detector="none")
    crop = np.load(folder / "train.npy")[0, 23, :, 0].astype(float)
    assert crop.shape == (46,)
    edge = (46 - extent) // 2
    middle = crop[edge + 2 : 46 - edge - 2]
    assert np.diff(middle).min() > 0, "the picture, from edge to edge"
    assert np.ptp(crop[: edge + 1]) <= 3 and np.ptp(crop[46 - edge - 1 :]) <= 3, "beyond it, its edge"
    row = table(folder, "train")[0]
    assert float(row["box_w"]) == pytest.approx(side * 40 / extent, abs=1e-3)
    assert float(row["box_x"]) == pytest.approx((side - side * 40 / extent) / 2, abs=1e-3)


def test_detector_none_copies_pixels_of_pictures_that_have_the_margin(dataset, noise):
    larger = noise(1)[:46, :46]
    dataset.add("train/anger/a.png", larger)
    folder, _ = normalise(dataset, detector="none")
    np.testing.assert_array_equal(np.load(folder / "train.npy")[0], larger)


def test_what_became_of_the_pictures_in_words():
    counts = {"found": 5, "aligned": 0, "fallback": 2, "dropped": 1}
    assert describe(counts) == "5 faces found, 2 not found (centre taken), 1 dropped"


def test_rows_that_are_not_ok_and_other_columns_are_passed_over(dataset, noise):
    dataset.add("train/anger/good.png", noise(1))
    dataset.add("train/anger/bad.png", b"no picture", status="unreadable")
    folder, counts = normalise(dataset, detector="none")
    assert len(np.load(folder / "train.npy")) == 1 and counts["train"]["all"]["aligned"] == 1
    assert not (folder / "val.npy").exists()


def test_a_run_replaces_what_an_earlier_one_left(dataset, noise):
    dataset.add("train/anger/a.png", noise(1))
    dataset.add("test/anger/b.png", noise(2))
    folder, _ = normalise(dataset, detector="none")
    assert (folder / "test.npy").exists()
    dataset.rows.pop()
    dataset.write()
    normalise(dataset, detector="none")
    assert sorted(content(folder)) == ["classes.json", "train.csv", "train.npy"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unreadable_picture_ends_the_run_by_name(dataset, noise, workers):
    for number in range(6):
        dataset.add(f"train/anger/{number}.png", noise(number))
    dataset.add("train/anger/broken.png", b"\x89PNG\r\n\x1a\n" + b"0" * 50)
    with pytest.raises(PictureError, match=r"train/anger/broken\.png"):
        normalise(dataset, detector="none", workers=workers)
    assert content(dataset.root / "faces") == {}


def test_a_picture_changed_after_validation_is_an_error(dataset, noise):
    dataset.add("train/anger/a.png", noise(1))
    Image.fromarray(noise(2)).save(dataset.images / "train/anger/a.png")
    with pytest.raises(NormaliseError, match="has changed since it was validated"):
        normalise(dataset, detector="none")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("class", "joy", "class: expected one of anger, happiness, surprise, got 'joy'"),
        ("split", "training", "split: expected one of train, val, test, got 'training'"),
        ("path", "../secret.png", "below the folder of the pictures"),
        ("path", "/etc/passwd", "below the folder of the pictures"),
        ("sha256", "../../x", "expected 64 hexadecimal digits"),
        ("path", "train/anger/gone.png", "cannot read .*gone.png"),
    ],
)
def test_a_wrong_row_is_an_error_by_name(dataset, noise, column, value, message):
    dataset.add("train/anger/a.png", noise(1))
    dataset.rows[0][column] = value
    dataset.write()
    with pytest.raises(NormaliseError, match=message):
        normalise(dataset, detector="none")


def test_a_manifest_without_usable_rows_or_columns_is_an_error(dataset, noise):
    dataset.add("train/anger/a.png", noise(1), status="too small")
    with pytest.raises(NormaliseError, match="expected at least one picture with status ok"):
        normalise(dataset)
    dataset.manifest.write_text("path,split\n")
    with pytest.raises(NormaliseError, match="lacks the column class, sha256, status"):
        normalise(dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "haar"}, "detector: expected one of mtcnn, yuface, none, got 'haar'"),
        ({"fallback": "skip"}, "fallback: expected one of center, drop, fail, got 'skip'"),
        ({"size": 0}, "got size 0"),
        ({"margin": -1}, "margin -1"),
        ({"min_score": 1.5}, "min_score must be between 0 and 1, got 1.5"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"classes": ("anger", "worst")}, "'worst' is the name of .*rename this class"),
    ],
)
def test_wrong_options_are_errors_by_name(dataset, noise, options, message):
    dataset.add("train/anger/a.png", noise(1))
    with pytest.raises(NormaliseError, match=message):
        normalise(dataset, **options)


def test_a_detector_that_is_not_installed_is_told_before_any_work(dataset, noise, monkeypatch):
    dataset.add("train/anger/a.png", noise(1))
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "yuface" else find(name))
    with pytest.raises(DetectorMissing, match="needs the package yuface.*pip install yuface"):
        normalise(dataset, detector="yuface")


def test_progress_counts_up_to_all(dataset, noise):
    for number in range(3):
        dataset.add(f"train/anger/{number}.png", noise(number))
    seen = []
    normalise(dataset, detector="none", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_sheets_show_each_class_and_the_worst(doubtful, scored):
    doubtful.add("val/surprise/good.png", scored(255))
    normalise(doubtful, fallback="drop")
    folder = doubtful.root / "faces_sheets"
    assert sorted(content(folder)) == ["anger.png", "surprise.png", "worst.png"]
    for path in folder.iterdir():
        sheet = np.asarray(Image.open(path))
        assert sheet.ndim == 3 and len(np.unique(sheet)) > 50, "a sheet shows pictures"


def test_sheets_stay_small_however_many_pictures(dataset, noise):
    for number in range(70):
        dataset.add(f"train/anger/{number}.png", noise(number)[:20, :20])
    normalise(dataset, detector="none")
    with Image.open(dataset.root / "faces_sheets" / "anger.png") as sheet:
        assert sheet.height < 800 and sheet.width < 1200
