"""Every picture is opened; what can't be used is listed with a reason, and limits stop the stage with the counts."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from covpool import artifacts
from covpool.datasets import DatasetError, validate
from covpool.datasets.validate import inspect
from covpool.params import load_params

LIMITS = dataclasses.replace(load_params().validate, max_bad_fraction=0.5, min_images_per_class=1)


def good(path, size=(40, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def raw(tmp_path):
    """Four good pictures and three bad ones of two classes, with their manifest."""
    folder = tmp_path / "raw"
    for name in ("train/a/1.png", "train/a/2.png", "train/b/3.png", "val/b/4.png"):
        good(folder / name)
    cut = good(folder / "train/a/cut.png")
    cut.write_bytes(cut.read_bytes()[:700])
    (folder / "train/b/text.jpg").write_text("no picture")
    good(folder / "val/a/tiny.png", (1, 1))
    rows = []
    for path in sorted(folder.glob("*/*/*")):
        split, name, _ = path.relative_to(folder).parts
        rows.append({"path": path.relative_to(folder).as_posix(), "split": split, "class": name, "source": "x"})
    artifacts.write_csv(folder / "manifest.csv", artifacts.MANIFEST_COLUMNS, rows)
    return folder


def run(raw, tmp_path, **limits):
    out = tmp_path / "validated"
    changed = dataclasses.replace(LIMITS, **limits)
    return validate(raw, out / "manifest.csv", out / "counts.json", changed, ("a", "b"))


def test_all_rows_are_kept_and_bad_ones_have_a_reason(raw, tmp_path):
    counts = run(raw, tmp_path, min_images_per_class=0)
    rows = artifacts.read_csv(tmp_path / "validated" / "manifest.csv", artifacts.VALIDATED_COLUMNS)
    assert len(rows) == 7
    status = {row["path"]: row for row in rows}
    for path in ("train/a/1.png", "val/b/4.png"):
        assert (status[path]["status"], status[path]["width"], status[path]["height"]) == ("ok", "40", "30")
    assert status["train/a/cut.png"]["status"] == "bad" and "truncated" in status["train/a/cut.png"]["reason"]
    assert "UnidentifiedImageError" in status["train/b/text.jpg"]["reason"]
    assert "side below" in status["val/a/tiny.png"]["reason"]
    assert counts == {
        "train": {"pictures": 5, "bad": 2, "usable": {"a": 2, "b": 1}},
        "val": {"pictures": 2, "bad": 1, "usable": {"a": 0, "b": 1}},
    }
    assert artifacts.read_json(tmp_path / "validated" / "counts.json") == counts


def test_limits_fail_with_the_counts_and_keep_the_lists(raw, tmp_path):
    with pytest.raises(DatasetError, match=r"3 of 7 pictures can't be used.*max_bad_fraction \(0.1\)(.|\n)*cut.png"):
        run(raw, tmp_path, max_bad_fraction=0.1)
    assert (tmp_path / "validated" / "manifest.csv").is_file()
    with pytest.raises(DatasetError, match=r"min_images_per_class \(1\): val/a has 0"):
        run(raw, tmp_path)


def test_a_bomb_is_judged_by_its_header(tmp_path):
    Image.new("1", (30000, 30000)).save(tmp_path / "bomb.png")
    facts = inspect(tmp_path, "bomb.png")
    assert facts["status"] == "bad" and facts["reason"]


@pytest.mark.parametrize("mode, suffix", [("L", "png"), ("P", "gif"), ("RGBA", "png"), ("CMYK", "jpg"), ("1", "png")])
def test_usual_modes_are_usable(tmp_path, mode, suffix):
    good(tmp_path / ("x." + suffix), mode=mode)
    facts = inspect(tmp_path, "x." + suffix)
    assert facts["status"] == "ok" and facts["mode"] == mode
