"""Bounds and formulas of the validation, each against a value that was worked out by hand or by another library."""

import hashlib

import cv2
import numpy as np
import pytest
import scipy.fft
from PIL import Image

from covpool.validation.counts import count
from covpool.validation.duplicates import perceptual_hashes
from covpool.validation.inspection import MIN_SIDE, inspect


def rows(sizes):
    """Usable rows of the manifest, so many of each class."""
    return [
        {"path": f"train/{name}/{index}.png", "split": "train", "class": name, "status": "ok"}
        | {"width": 20, "height": 30, "brightness": 100.0, "notes": ""}
        for name, size in sizes.items()
        for index in range(size)
    ]


@pytest.mark.parametrize("sizes, imbalance", [((6, 2, 3), 3.0), ((3, 5, 4), 1.67), ((4, 4, 4), 1.0), ((4, 0, 1), None)])
def test_imbalance_is_the_largest_class_over_the_smallest(sizes, imbalance):
    classes = ("a", "b", "c")
    counted = count(rows(dict(zip(classes, sizes, strict=True))), classes)["train"]
    assert counted["imbalance"] == imbalance
    assert counted["usable"] == dict(zip(classes, sizes, strict=True))


@pytest.mark.parametrize(
    "width, height, status",
    [(MIN_SIDE, 60, "ok"), (60, MIN_SIDE, "ok"), (MIN_SIDE - 1, 60, "bad"), (60, MIN_SIDE - 1, "bad")],
)
def test_the_shorter_side_decides(tmp_path, width, height, status):
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    row = {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert inspect(tmp_path, row).columns["status"] == status


@pytest.mark.parametrize("shape", [(64, 64), (90, 120), (300, 200)])
def test_the_hash_is_the_signs_of_the_lowest_frequencies(shape):
    """Of the 64x64 picture's cosine transform (SciPy's) the 16x16 lowest, against their median."""
    grey = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8), (0, 0), 5)
    grey = cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX)
    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
    for found, picture in zip(perceptual_hashes(grey), (small, small[:, ::-1]), strict=True):
        lowest = scipy.fft.dctn(picture.astype(float))[:16, :16]
        np.testing.assert_array_equal(found, np.packbits(lowest > np.median(lowest)))
