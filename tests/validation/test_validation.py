"""Every picture is opened; what can't be used is listed with a reason, and limits stop the stage with the counts."""

import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from covpool import artifacts
from covpool.faces import PictureError
from covpool.faces.crops import Settings, normalise_picture
from covpool.params import load_params
from covpool.validation import ValidationError, validate
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
    return validate(raw, out / "manifest.csv", out / "counts.json", changed, ("a", "b"), workers=workers)


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
    assert rows["train/b/text.jpg"]["reason"] == "no picture in a known format"
    assert rows["val/a/tiny.png"]["reason"] == "1x1: a side below 16 pixels"
    assert counts == {
        "train": {"pictures": 5, "bad": 2, "usable": {"a": 2, "b": 1}},
        "val": {"pictures": 2, "bad": 1, "usable": {"a": 0, "b": 1}},
    }
    assert artifacts.read_json(tmp_path / "validated" / "counts.json") == counts


def test_bytes_do_not_depend_on_the_workers(raw, tmp_path):
    written = []
    for workers in (1, 2):
        run(raw, tmp_path, workers=workers, min_images_per_class=0)
        written.append([path.read_bytes() for path in sorted((tmp_path / "validated").iterdir())])
    assert written[0] == written[1]


def test_limits_fail_with_the_counts_and_keep_the_lists(raw, tmp_path):
    with pytest.raises(ValidationError, match=r"3 of 7 pictures.*max_bad_fraction \(0.1\)(.|\n)*cut.png"):
        run(raw, tmp_path, max_bad_fraction=0.1)
    assert (tmp_path / "validated" / "manifest.csv").is_file()
    with pytest.raises(ValidationError, match=r"min_images_per_class \(1\): val/a has 0"):
        run(raw, tmp_path)


def facts_of(folder, name):
    return inspect(folder, row_of(folder, name))


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
    assert "another SHA-256" in inspect(tmp_path, row)["reason"]
    (tmp_path / "x.png").unlink()
    assert inspect(tmp_path, row)["reason"] == "the file can't be read: No such file or directory"


def test_postscript_starts_no_program(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript, under any name."""
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **_: pytest.fail("a program was started"))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "x.png").write_bytes(content)
    assert facts_of(tmp_path, "x.png") == {"status": "bad", "reason": "no picture in a known format"}


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
}  # fmt: skip
UNUSABLE = {"float.tif", "wide.tif", "icon.png", "animated.gif", "tiny.png", "empty.png", "cut.jpg"}


@pytest.mark.parametrize("name", ODD)
def test_what_is_ok_here_can_be_read_by_normalise(tmp_path, name):
    ODD[name](tmp_path / name)
    row = row_of(tmp_path, name)
    facts = inspect(tmp_path, row)
    assert facts["status"] == ("bad" if name in UNUSABLE else "ok"), facts
    assert bool(facts["reason"]) == (name in UNUSABLE)
    settings = Settings(tmp_path, detector="none", size=48)
    if name not in UNUSABLE:
        assert normalise_picture(settings, row).image.shape == (60, 60, 3)
    elif name != "tiny.png":
        with pytest.raises(PictureError, match=facts["reason"][:20]):
            normalise_picture(settings, row)
