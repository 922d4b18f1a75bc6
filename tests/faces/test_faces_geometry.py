"""The similarity against known transforms and scikit-image's; the warp against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from covpool.faces import TEMPLATE, align, similarity_transform
from covpool.faces.geometry import (
    MEAN_FACE,
    box_transform,
    compose,
    face_transform,
    invert,
    mirror_points,
    template_points,
    transform_points,
)

coordinates = st.floats(-500, 500)
point_sets = st.integers(2, 8).flatmap(
    lambda n: st.lists(st.tuples(coordinates, coordinates), min_size=n, max_size=n).map(np.array)
)
angles = st.floats(-np.pi, np.pi)
scales = st.floats(0.05, 20)
shifts = st.tuples(coordinates, coordinates)


def similarity(angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]])


def spread(points: np.ndarray) -> float:
    return float(np.abs(points - points.mean(0)).max())


@settings(deadline=None)
@given(point_sets, angles, scales, shifts)
def test_recovers_a_known_similarity(points, angle, scale, shift):
    assume(spread(points) > 1e-2)
    known = similarity(angle, scale, shift)
    found = similarity_transform(points, transform_points(known, points))
    # Conditioning: an error of the coordinates' rounding is magnified by how far out they lie for their spread.
    tolerance = 1e-12 * (1 + scale) * (1 + 1000 / spread(points)) * 1000
    np.testing.assert_allclose(found, known, rtol=0, atol=tolerance)


@settings(deadline=None)
@given(point_sets, st.randoms(use_true_random=False))
def test_is_never_a_reflection_and_agrees_with_umeyama_by_svd(points, random):
    assume(spread(points) > 1)
    target = np.array([(-x + random.uniform(-20, 20), y + random.uniform(-20, 20)) for x, y in points])
    found = similarity_transform(points, target)
    assert np.linalg.det(found[:, :2]) >= 0
    if len(points) > 2 and np.linalg.matrix_rank(points - points.mean(0), tol=1.0) == 2:
        other = SimilarityTransform.from_estimate(points, target)
        # A best scale near zero (a mirrored set can have one) leaves the rotation undefined.
        assume(np.sqrt(np.linalg.det(found[:, :2])) > 1e-3)
        np.testing.assert_allclose(found, other.params[:2], rtol=1e-6, atol=1e-6 * 500)


@settings(deadline=None)
@given(point_sets, point_sets, st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(-3, 3), st.floats(-3, 3))
def test_no_similarity_nearby_fits_better(points, noise, turn, grow, x, y):
    assume(spread(points) > 1 and len(noise) >= len(points))
    target = transform_points(similarity(0.3, 1.5, (10, -4)), points) + noise[: len(points)] / 50
    found = similarity_transform(points, target)

    def loss(matrix):
        return np.sum((transform_points(matrix, points) - target) ** 2)

    nearby = compose(similarity(turn, 1 + grow, (x, y)), found)
    assert loss(found) <= loss(nearby) + 1e-9 * (1 + loss(nearby))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([(3.0, 4.0)] * 5, TEMPLATE, "coincide"),
        ([(1e6 / 3, 1e6 / 7)] * 5, TEMPLATE, "coincide"),
        ([(1.0, 2.0)], [(1.0, 2.0)], "n >= 2"),
        (np.zeros((5, 3)), np.zeros((5, 3)), r"\[n, 2\]"),
        (TEMPLATE, TEMPLATE[:4], r"\(5, 2\) and \(4, 2\)"),
        (np.where(TEMPLATE > 50, np.nan, TEMPLATE), TEMPLATE, "finite"),
    ],
)
def test_refuses_what_has_no_similarity(source, target, message):
    with pytest.raises(ValueError, match=message):
        similarity_transform(np.asarray(source), np.asarray(target))


def test_template_is_its_own_mirror_image_and_leaves_room_for_brows_and_lips():
    mirrored = TEMPLATE[[1, 0, 2, 4, 3]] * (-1, 1) + (100, 0)
    np.testing.assert_allclose(mirrored, TEMPLATE, atol=1e-9)
    eyes = TEMPLATE[1, 0] - TEMPLATE[0, 0]
    assert TEMPLATE[0, 1] - 0.6 * eyes > 0, "raised brows"
    assert TEMPLATE[0, 1] + 1.7 * eyes < 100, "lower lip of an open mouth"


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 40), angles, scales, shifts)
def test_landmarks_of_a_perfect_face_land_on_the_template(size, margin, angle, scale, shift):
    landmarks = transform_points(similarity(angle, scale, shift), MEAN_FACE * 60)
    carried = transform_points(face_transform(landmarks, size, margin), landmarks)
    np.testing.assert_allclose(carried, template_points(size, margin), atol=1e-6)


def test_template_grows_with_the_crop_and_keeps_the_margin_outside():
    # Edges of the frame, not pixel centres, are what a change of size keeps.
    for size in (50, 100, 224):
        np.testing.assert_allclose((template_points(size, 0) + 0.5) * 100 / size, TEMPLATE)
    np.testing.assert_allclose(template_points(100, 6), template_points(100, 0) + 6)


@settings(deadline=None)
@given(angles, scales, shifts)
def test_invert_and_compose(angle, scale, shift):
    matrix = similarity(angle, scale, shift)
    tolerance = 1e-9 * (1 + 1000 * max(scale, 1 / scale))
    np.testing.assert_allclose(compose(invert(matrix), matrix), np.eye(3)[:2], atol=tolerance)


@pytest.mark.parametrize(("width", "height"), [(48, 48), (300, 200), (37, 81)])
def test_a_box_fills_the_frame_undistorted_and_centred(width, height):
    matrix = box_transform((10, 20, width, height), 100, 6)
    edges = np.array([(10 - 0.5, 20 - 0.5), (10 + width - 0.5, 20 + height - 0.5)])
    (left, top), (right, bottom) = transform_points(matrix, edges)
    assert max(right - left, bottom - top) == pytest.approx(100)
    assert (right - left) / (bottom - top) == pytest.approx(width / height)
    assert (left + right) / 2 == pytest.approx(56 - 0.5) and (top + bottom) / 2 == pytest.approx(56 - 0.5)


def test_a_mirrored_face_gives_the_mirrored_crop(astronaut):
    landmarks = transform_points(similarity(0.35, 1.0, (120, 90)), MEAN_FACE * 50 + (0.3, 0.7))
    crop = align(astronaut, landmarks, 100, 6)
    mirrored = align(np.ascontiguousarray(astronaut[:, ::-1]), mirror_points(landmarks, 220), 100, 6)
    difference = np.abs(crop.astype(int) - mirrored[:, ::-1])
    assert difference.mean() < 0.5 and np.quantile(difference, 0.99) <= 4


def test_mirroring_points_twice_is_no_change():
    points = np.random.default_rng(0).uniform(0, 50, (7, 5, 2))
    np.testing.assert_allclose(mirror_points(mirror_points(points, 64), 64), points)


def test_the_template_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        TEMPLATE[0, 0] = 0


def test_a_crop_has_100_pixels_and_no_margin_unless_asked(astronaut):
    landmarks = MEAN_FACE * 50 + (110, 90)
    assert align(astronaut, landmarks).shape == (100, 100, 3)
    assert align(astronaut, landmarks, 40, 3).shape == (46, 46, 3)


@pytest.mark.parametrize("offset", [0, 1e3, 1e6])
def test_points_that_differ_a_little_have_a_similarity_and_rounding_has_none(offset):
    """Points count as one if they differ by rounding alone, which grows with the coordinates."""
    near = np.array([(0.0, 0.0), (1.0, 2.0)]) * 64 * (np.spacing(offset) if offset else 1e-30)
    similarity_transform(near + offset, TEMPLATE[:2])
    if offset:
        with pytest.raises(ValueError, match="coincide"):
            similarity_transform(near / 64 + offset, TEMPLATE[:2])
