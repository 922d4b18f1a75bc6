"""The warp of pictures: no shift, no aliasing, nothing read from afar, and the edge repeated beyond the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from covpool.faces.geometry import box_transform, compose, invert, transform_points, warp
from tests.faces.test_faces_geometry import similarity


def test_a_crop_of_the_frames_own_size_copies_pixels():
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    crop = warp(image, box_transform((0, 0, 100, 100), 100, 6), (112, 112))
    np.testing.assert_array_equal(crop[6:-6, 6:-6], image)
    np.testing.assert_array_equal(crop[:6, 6:-6], np.repeat(image[:1], 6, axis=0))


def ramp(height: int, width: int, angle: float = 0.0) -> np.ndarray:
    """Brightness rising linearly along a direction, from 20 to 230: any averaging leaves it what it is."""
    y, x = np.mgrid[:height, :width]
    along = np.cos(angle) * x + np.sin(angle) * y
    along = (along - along.min()) / (along.max() - along.min())
    return np.repeat((20 + 210 * along).round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("scale", [0.07, 0.21, 0.5, 0.8, 1.0, 1.7])
@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
def test_warp_carries_a_linear_ramp_exactly(scale, angle):
    """Whatever is resized on the way, no half-pixel shift may remain: the value tells the place."""
    image = ramp(600, 700, 0.4)
    matrix = similarity(angle, scale, (0, 0))
    matrix[:, 2] = 20 - matrix[:, :2] @ (350, 300)
    crop = warp(image, matrix, (41, 41)).astype(float)
    y, x = np.mgrid[:41, :41]
    source = transform_points(invert(matrix), np.stack([x, y], -1).astype(float))
    inside = ((source > 60) & (source < (640, 540))).all(-1)
    along = np.cos(0.4) * source[..., 0] + np.sin(0.4) * source[..., 1]
    most = np.cos(0.4) * 699 + np.sin(0.4) * 599
    wanted = 20 + 210 * along / most
    assert inside.sum() > 20
    assert np.abs(crop[..., 0] - wanted)[inside].max() < 1.3
    assert np.abs((crop[..., 0] - wanted)[inside].mean()) < 0.2


@pytest.mark.parametrize("scale", [0.09, 0.23, 0.45, 0.7])
@pytest.mark.parametrize("angle", [0.0, 0.6])
def test_warp_does_not_alias(scale, angle):
    """Stripes too fine for the output must average to grey, not to false stripes."""
    y, x = np.mgrid[:800, :800]
    stripes = np.where((x + y) % 2, 255, 0).astype(np.uint8)
    image = np.repeat(stripes[..., None], 3, axis=2)
    matrix = similarity(angle, scale, (0, 0))
    matrix[:, 2] = 16 - matrix[:, :2] @ (400, 400)
    crop = warp(image, matrix, (32, 32)).astype(float)
    # The stripes' own swing is 127.5; sampled without averaging it would stay.
    assert np.abs(crop - 127.5).max() < 40
    naive = cv2.warpAffine(image, matrix, (32, 32), flags=cv2.INTER_LINEAR).astype(float)
    assert crop.std() < max(naive.std() / 3, 2)


def test_warp_reads_only_the_seen_part_of_a_picture():
    """The result must not depend on what is far away, nor on how large the picture is."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    matrix = similarity(0.3, 0.8, (0, 0))
    matrix[:, 2] = 20 - matrix[:, :2] @ (150, 150)
    crop = warp(image, matrix, (41, 41))
    changed = image.copy()
    changed[:80], changed[-80:], changed[:, :80], changed[:, -80:] = 0, 0, 0, 0
    np.testing.assert_array_equal(warp(changed, matrix, (41, 41)), crop)


def test_warp_outside_of_the_picture_repeats_its_edge():
    image = np.full((20, 20, 3), 90, np.uint8)
    for shift in ((500, 0), (-500, -300), (0, 90)):
        assert (warp(image, similarity(0.2, 0.9, shift), (30, 30)) == 90).all()


def test_an_enlarged_crop_is_sampled_bicubically():
    """As OpenCV does it by itself; averaging would blur what is not reduced."""
    image = np.random.default_rng(3).integers(0, 256, (220, 220, 3), dtype=np.uint8)
    matrix = similarity(0.2, 1.2, (0, 0))
    matrix[:, 2] = 30 - matrix[:, :2] @ (110, 110)
    expected = cv2.warpAffine(image, matrix, (61, 61), flags=cv2.INTER_CUBIC)
    assert np.abs(warp(image, matrix, (61, 61)).astype(int) - expected).mean() < 1


@pytest.mark.parametrize("angle", [0.3, 0.78])
@pytest.mark.parametrize("scale", [0.35, 0.55, 0.8])
def test_a_reduced_crop_is_the_mean_over_each_pixel(scale, angle):
    """Against the mean of 16x16 samples in each pixel of the crop, on a picture with detail of a pixel's size."""
    noise = np.random.default_rng(2).integers(0, 256, (300, 300), dtype=np.uint8)
    image = np.repeat(noise[..., None], 3, axis=2)
    matrix = similarity(angle, scale, (0, 0))
    matrix[:, 2] = 20 - matrix[:, :2] @ (150, 150)
    fine = compose(np.array([[16, 0, 7.5], [0, 16, 7.5]]), matrix)
    samples = cv2.warpAffine(image, fine, (41 * 16, 41 * 16), flags=cv2.INTER_LINEAR).astype(float)
    expected = samples.reshape(41, 16, 41, 16, 3).mean((1, 3))
    error = warp(image, matrix, (41, 41)) - expected
    assert np.sqrt((error**2).mean()) < 0.39 * expected.std()


@pytest.mark.parametrize("scale", [0.05, 0.1])
def test_the_border_of_a_crop_is_as_in_a_larger_crop(scale):
    """Also if the picture changes right behind what the crop shows, which bicubic interpolation has to know."""
    seen = round(31 / scale)
    image = np.full((3 * seen, 3 * seen, 3), 200, np.uint8)
    image[seen : 2 * seen, seen : 2 * seen] = 100
    matrix = box_transform((seen, seen, seen, seen), 31, 0)
    larger = warp(image, compose(similarity(0, 1, (10, 10)), matrix), (51, 51)).astype(int)
    difference = np.abs(warp(image, matrix, (31, 31)) - larger[10:-10, 10:-10])
    assert difference.max() <= 4
