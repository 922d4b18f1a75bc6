"""Every picture is opened; what can't be used is listed with a reason, and limits stop the stage with the counts."""

import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from covpool.config import load_params
from covpool.faces import PictureError
from covpool.faces.crops import Settings, normalise_picture
from covpool.pipeline import artifacts
from covpool.validation import ValidationError, describe, validate
from covpool.validation.inspection import inspect

LIMITS = dataclasses.replace(load_params().validate, max_bad_fraction=0.5, min_images_per_class=1)


def row_of(folder, path):
    split, name = path.split("/")[:2] if path.count("/") == 2 else ("train", "a")
    digest = hashlib.sha256((folder / path).read_bytes()).hexdigest()
    return {"path": path, "split": split, "class": name, "sha256": digest, "source": "x", "subject": ""}


def good(path, size=(40, 30), mode="RGB", seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


@pytest.fixture
def raw(tmp_path):
    """Four good pictures and three bad ones of two classes, with their manifest."""
    folder = tmp_path / "raw"
    for seed, name in enumerate(("train/a/1.png", "train/a/2.png", "train/b/3.png", "val/b/4.png")):
        good(folder / name, seed=seed)
    cut = good(folder / "train/a/cut.png")
    cut.write_bytes(cut.read_bytes()[:700])
    (folder / "train/b/text.jpg").write_text("no picture")
    good(folder / "val/a/tiny.png", (1, 1))
    write_manifest(folder)
    return folder


def write_manifest(folder):
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*/*"))
    artifacts.write_csv(folder / "manifest.csv", artifacts.MANIFEST_COLUMNS, [row_of(folder, path) for path in paths])


def run(raw, tmp_path, workers=1, **limits):
    out = tmp_path / "validated"
    changed = dataclasses.replace(LIMITS, **limits)
    return validate(raw, out, changed, ("a", "b"), workers=workers)


def validated(tmp_path):
    rows = artifacts.read_csv(tmp_path / "validated" / "manifest.csv", artifacts.VALIDATED_COLUMNS)
    return {row["path"]: row for row in rows}


def test_all_rows_are_kept_and_bad_ones_have_a_reason(raw, tmp_path):
    counts = run(raw, tmp_path, min_images_per_class=0)
    rows = validated(tmp_path)
    assert len(rows) == 7
    for path in ("train/a/1.png", "val/b/4.png"):
        assert (rows[path]["status"], rows[path]["width"], rows[path]["height"]) == ("ok", "40", "30")
    assert rows["train/a/cut.png"]["status"] == "bad" and "truncated" in rows["train/a/cut.png"]["reason"]
    assert rows["train/b/text.jpg"]["reason"] == "not a picture in a known format"
    assert rows["val/a/tiny.png"]["reason"] == "1x1: both sides must have at least 16 pixels"
    told = {split: (row["pictures"], row["bad"], row["usable"]) for split, row in counts.items()}
    assert told == {"train": (5, 2, {"a": 2, "b": 1}), "val": (2, 1, {"a": 0, "b": 1})}
    assert artifacts.read_json(tmp_path / "validated" / "counts.json") == counts


def test_bytes_do_not_depend_on_the_workers(raw, tmp_path):
    written = []
    for workers in (1, 2):
        run(raw, tmp_path, workers=workers, min_images_per_class=0)
        written.append([path.read_bytes() for path in sorted((tmp_path / "validated").iterdir())])
    assert written[0] == written[1]


def add_copies(raw):
    """A picture of train in val again; another of train smaller, in train, under the other class."""
    Image.open(raw / "train/a/1.png").save(raw / "val/b/copy.bmp")
    with Image.open(raw / "train/a/2.png") as image:
        image.resize((80, 60)).save(raw / "train/b/larger.png")
    write_manifest(raw)


def test_duplicates_are_marked_counted_and_kept(raw, tmp_path):
    add_copies(raw)
    counts = run(raw, tmp_path, min_images_per_class=0)
    rows = validated(tmp_path)
    assert all(row["status"] == "ok" for path, row in rows.items() if "copy" in path or "larger" in path)
    told = {path: (row["duplicate_of"], row["duplicate_kind"]) for path, row in rows.items() if row["duplicate_of"]}
    assert told == {
        "train/a/1.png": ("val/b/copy.bmp", "near"),
        "val/b/copy.bmp": ("train/a/1.png", "near"),
        "train/b/larger.png": ("train/a/2.png", "near"),
    }
    assert counts["train"]["duplicates"] == {"inside": 1, "across": 1, "of_another_class": 2}
    assert counts["val"]["duplicates"] == {"inside": 0, "across": 1, "of_another_class": 1}
    assert describe(counts["train"]) == (
        "6 pictures, 2 of them bad, 1 also in another split, 1 twice in the split, 2 also under another class"
    )


def test_what_training_does_without_is_left_out_by_name_and_counted(raw, tmp_path):
    add_copies(raw)
    counts = run(raw, tmp_path, min_images_per_class=0, duplicates="drop_from_train")
    out = {path: row["reason"] for path, row in validated(tmp_path).items() if row["status"] == "left out"}
    assert out == {
        "train/a/1.png": "duplicate of a picture of val",
        "train/b/larger.png": "duplicate of a picture of train",
    }
    assert counts["train"]["left_out"] == 2 and counts["train"]["usable"] == {"a": 1, "b": 1}
    with pytest.raises(ValidationError, match="min_images_per_class"):
        run(raw, tmp_path, min_images_per_class=2, duplicates="drop_from_train")


def test_pictures_shared_by_splits_fail_the_stage_if_asked(raw, tmp_path):
    add_copies(raw)
    with pytest.raises(ValidationError, match=r"2 pictures show(.|\n)*train/a/1.png = val/b/copy.bmp \(near, distance"):
        run(raw, tmp_path, min_images_per_class=0, duplicates="fail")
    assert validated(tmp_path)["train/a/1.png"]["duplicate_of"] == "val/b/copy.bmp"
    (raw / "val/b/copy.bmp").unlink()
    write_manifest(raw)
    run(raw, tmp_path, min_images_per_class=0, duplicates="fail")


def test_counts_and_tables_describe_the_usable_pictures(tmp_path):
    raw = tmp_path / "raw"
    for number, (split, name, size, level) in enumerate(
        (
            ("train", "a", (40, 30), 0),
            ("train", "a", (64, 90), 100),
            ("train", "b", (20, 200), 255),
            ("val", "b", (64, 64), 130),
        )
    ):
        path = raw / split / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, level).save(path)
    write_manifest(raw)
    counts = run(raw, tmp_path, min_images_per_class=0)
    assert counts["train"] == {
        "pictures": 3,
        "bad": 0,
        "left_out": 0,
        "usable": {"a": 2, "b": 1},
        "imbalance": 2.0,
        "shorter_side": {"least": 20, "median": 30.0, "largest": 64},
        "brightness": {"least": 0.0, "median": 100.0, "largest": 255.0},
        "notes": {},
        "duplicates": {"inside": 0, "across": 0, "of_another_class": 0},
    }
    assert counts["val"]["imbalance"] is None
    folder = tmp_path / "validated"
    tables = {name: artifacts.read_csv(folder / f"{name}.csv") for name in ("balance", "brightness", "sizes")}
    assert [tuple(row.values()) for row in tables["balance"]] == [
        ("train", "a", "2"),
        ("train", "b", "1"),
        ("val", "a", "0"),
        ("val", "b", "1"),
    ]
    assert [tuple(row.values()) for row in tables["sizes"]] == [
        ("train", "16", "2"),
        ("train", "32", "0"),
        ("train", "64", "1"),
        ("val", "16", "0"),
        ("val", "32", "0"),
        ("val", "64", "1"),
    ]
    bright = {(row["split"], row["brightness"]): row["pictures"] for row in tables["brightness"]}
    assert len(bright) == 32 and {key for key, many in bright.items() if many == "1"} == {
        ("train", "0"),
        ("train", "96"),
        ("train", "240"),
        ("val", "128"),
    }


def test_a_data_set_without_a_usable_picture_is_counted(tmp_path):
    (tmp_path / "raw/train/a").mkdir(parents=True)
    (tmp_path / "raw/train/a/x.png").write_bytes(b"")
    write_manifest(tmp_path / "raw")
    with pytest.raises(ValidationError, match="1 of 1 pictures can't be used"):
        run(tmp_path / "raw", tmp_path)
    counts = artifacts.read_json(tmp_path / "validated" / "counts.json")["train"]
    assert counts["brightness"] is None and counts["usable"] == {"a": 0, "b": 0}


def test_limits_fail_with_the_counts_and_keep_the_lists(raw, tmp_path):
    with pytest.raises(ValidationError, match=r"3 of 7 pictures.*max_bad_fraction \(0.1\)(.|\n)*cut.png"):
        run(raw, tmp_path, max_bad_fraction=0.1)
    assert (tmp_path / "validated" / "manifest.csv").is_file()
    with pytest.raises(
        ValidationError, match=r"min_images_per_class \(1\) usable pictures of each class, got fewer: val/a has 0"
    ):
        run(raw, tmp_path)


def facts_of(folder, name):
    return inspect(folder, row_of(folder, name)).columns


def test_a_bomb_is_judged_by_its_header(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    assert facts_of(tmp_path, "bomb.png") == {"status": "bad", "reason": "9000x9000 is more than 67108864 pixels"}
    Image.new("1", (30000, 30000)).save(tmp_path / "larger.png")
    assert facts_of(tmp_path, "larger.png")["status"] == "bad"


@pytest.mark.parametrize("mode, suffix", [("L", "png"), ("P", "gif"), ("RGBA", "png"), ("CMYK", "jpg"), ("1", "png")])
def test_usual_modes_are_usable(tmp_path, mode, suffix):
    good(tmp_path / ("x." + suffix), mode=mode)
    facts = facts_of(tmp_path, "x." + suffix)
    assert facts["status"] == "ok" and facts["mode"] == mode


def test_a_wrong_ending_is_noted_and_does_no_harm(tmp_path):
    good(tmp_path / "x.jpg").rename(tmp_path / "x.png")
    facts = facts_of(tmp_path, "x.png")
    assert (facts["status"], facts["format"], facts["notes"]) == ("ok", "JPEG", "named .png, is JPEG")
    assert facts_of(tmp_path, good(tmp_path / "y.JPG").name)["notes"] == ""


def test_a_rotated_picture_has_its_upright_size(tmp_path):
    exif = Image.new("RGB", (1, 1)).getexif()
    exif[274] = 6
    good(tmp_path / "x.jpg", exif=exif)
    facts = facts_of(tmp_path, "x.jpg")
    assert (facts["width"], facts["height"], facts["notes"]) == (30, 40, "turned upright")


def test_brightness_is_the_mean_grey_level(tmp_path):
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:10] = 200
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert facts_of(tmp_path, "x.png")["brightness"] == 100.0


def test_a_file_that_is_not_the_manifests_is_bad(tmp_path):
    good(tmp_path / "x.png")
    row = row_of(tmp_path, "x.png")
    good(tmp_path / "x.png", seed=1)
    assert "its SHA-256 differs" in inspect(tmp_path, row).columns["reason"]
    (tmp_path / "x.png").unlink()
    assert inspect(tmp_path, row).columns["reason"] == "the file can't be read: No such file or directory"


def test_postscript_starts_no_program(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript, under any name."""
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **_: pytest.fail("a program was started"))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "x.png").write_bytes(content)
    assert facts_of(tmp_path, "x.png") == {"status": "bad", "reason": "not a picture in a known format"}


ODD = {
    "float.tif": lambda path: Image.fromarray(np.ones((40, 40), np.float32)).save(path),
    "wide.tif": lambda path: Image.fromarray(np.full((40, 40), 70000, np.int32)).save(path),
    "icon.png": lambda path: Image.new("RGB", (32, 32)).save(path, format="ICO"),
    "animated.gif": lambda path: good(path, mode="L", save_all=True, append_images=[Image.new("L", (40, 30))]),
    "lab.tif": lambda path: Image.new("LAB", (40, 40)).save(path),
    "palette.png": lambda path: good(path, mode="P", transparency=3),
    "sixteen.png": lambda path: Image.fromarray(np.full((40, 40), 7000, np.uint16)).save(path),
    "alpha.webp": lambda path: good(path, mode="RGBA"),
    "cmyk.jpg": lambda path: good(path, mode="CMYK"),
    "grey_alpha.png": lambda path: good(path, mode="LA"),
    "tiny.png": lambda path: good(path, (1, 1)),
    "empty.png": lambda path: path.write_bytes(b""),
    "cut.jpg": lambda path: path.write_bytes(good(path).read_bytes()[:-300]),
    "photo.png": lambda path: good(path, (300, 200)),
}
UNUSABLE = {"float.tif", "wide.tif", "icon.png", "animated.gif", "tiny.png", "empty.png", "cut.jpg"}


@pytest.mark.parametrize("name", ODD)
def test_what_is_ok_here_can_be_read_by_normalise(tmp_path, name):
    ODD[name](tmp_path / name)
    row = row_of(tmp_path, name)
    facts = inspect(tmp_path, row).columns
    assert facts["status"] == ("bad" if name in UNUSABLE else "ok"), facts
    assert bool(facts["reason"]) == (name in UNUSABLE)
    settings = Settings(tmp_path, detector="none", size=48)
    if name not in UNUSABLE:
        assert normalise_picture(settings, row).image.shape == (60, 60, 3)
    elif name != "tiny.png":
        with pytest.raises(PictureError, match=facts["reason"][:20]):
            normalise_picture(settings, row)


def test_classes_that_the_data_set_lacks_are_advised_to_be_left_out(raw, tmp_path):
    with pytest.raises(ValidationError) as caught:
        validate(raw, tmp_path / "validated", LIMITS, ("a", "b", "c", "d"), workers=1)
    assert "got fewer: " in str(caught.value) and "train/c has 0" in str(caught.value)
    assert str(caught.value).endswith(". For the classes that are there, set dataset.classes=[a, b]")
    with pytest.raises(ValidationError) as caught:
        run(raw, tmp_path)
    assert "val/a has 0" in str(caught.value) and "dataset.classes" not in str(caught.value)
