"""Makes the crop of one picture: its face found, turned upright and cut out, or the fallback if there is no face.

`normalise_picture` is a pure function of a picture's bytes and the settings, so that it can run in any process.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from covpool.faces import detectors, geometry
from covpool.faces.cache import DetectionCache
from covpool.faces.detectors import Face
from covpool.images import opener

#: Names of the detectors; `none` takes each picture as an aligned face already.
DETECTORS = (*detectors.DETECTORS, "none")

#: What to do with a picture in which no face was found.
FALLBACKS = ("center", "drop", "fail")


class NormaliseError(ValueError):
    """The data can't be normalised as requested; the message says what is wrong, and where."""


@dataclass(frozen=True)
class Settings:
    """Everything that a crop depends on, except the picture's bytes.

    Args:
        images: folder that the manifest's paths are relative to.
        detector: one of DETECTORS.
        size: side of the frame, the part of the crop that the network sees without augmentation, in pixels.
        margin: pixels around the frame, on each side.
        min_score: faces with a lower score count as not found; 0 to 1.
        fallback: one of FALLBACKS, for pictures without a face.
        cache: folder of the detection cache; None: no cache.

    Raises:
        NormaliseError: if a value is out of its range.
    """

    images: Path
    detector: str = "mtcnn"
    size: int = 100
    margin: int = 6
    min_score: float = 0.9
    fallback: str = "center"
    cache: Path | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (("detector", self.detector, DETECTORS), ("fallback", self.fallback, FALLBACKS)):
            if value not in choices:
                raise NormaliseError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
        if self.size < 1 or self.margin < 0:
            raise NormaliseError(
                f"size must be at least 1 pixel and margin at least 0, got size {self.size} and margin {self.margin}"
            )
        if not 0 <= self.min_score <= 1:
            raise NormaliseError(f"min_score must be between 0 and 1, got {self.min_score}")

    @property
    def side(self) -> int:
        """Side of a crop with its margin, in pixels."""
        return self.size + 2 * self.margin


@dataclass(frozen=True)
class Crop:
    """The result for one picture.

    Args:
        image: uint8 [side, side, 3] RGB; None if the picture was dropped.
        method: the detector's name; `none` (taken as an aligned face, none was searched for); `center` or `drop`.
        box: x, y, width, height in pixels of the face, or of the part of the picture that fills the frame.
        face: the face that was found, also if its score is too low; None if there is none.
        detected: whether the detector ran; otherwise the detection came from the cache.
    """

    image: np.ndarray | None
    method: str
    box: tuple[float, float, float, float] | None
    face: Face | None
    detected: bool


def normalise_picture(settings: Settings, row: dict[str, str]) -> Crop:
    """Return the crop of one picture: a pure function of the picture's bytes and the settings.

    Args:
        settings: what the crop depends on.
        row: the picture's row in the manifest, with `path` and `sha256`.

    Raises:
        PictureError: if the picture can't be read.
        NormaliseError: if it is not the manifest's picture, or if it has no face and the fallback is `fail`.
    """
    # Each core works on another picture: more threads for one picture would only slow the others down.
    cv2.setNumThreads(1)
    content = _content(settings.images / row["path"], row["sha256"])
    image = opener.decode_picture(content, row["path"])
    height, width = image.shape[:2]
    if settings.detector == "none":
        return _boxed(image, "none", _aligned_frame(width, height, settings), None, False, settings)
    face, detected = _find(image, row["sha256"], settings)
    if face is not None and face.score >= settings.min_score:
        crop = geometry.align(image, face.landmarks, settings.size, settings.margin)
        return Crop(crop, settings.detector, face.box, face, detected)
    if settings.fallback == "fail":
        best = "no face was found" if face is None else f"the best face has {face.score}"
        raise NormaliseError(
            f"{row['path']}: expected a face with a score of at least {settings.min_score}, but {best}. "
            "Lower normalise.min_score, or set normalise.fallback to center or drop."
        )
    if settings.fallback == "drop":
        return Crop(None, "drop", None, face, detected)
    side = float(min(height, width))
    return _boxed(image, "center", ((width - side) / 2, (height - side) / 2, side, side), face, detected, settings)


def _aligned_frame(width: int, height: int, settings: Settings) -> tuple[float, float, float, float]:
    """Return the box that fills the frame, of a picture that is an aligned face already: all of it, or its centre.

    A picture of up to `size` pixels fills the frame, and the margin repeats its edge. Of a picture of `side` pixels or
    more the central share size/side is the frame, and the margin shows what lies around it, as facenet and its
    successors crop from pictures somewhat larger than the network's input. Pictures in between keep their pixels.
    """
    longest = max(width, height)
    share = settings.size / min(max(longest, settings.size), settings.side)
    box = width * share, height * share
    return ((width - box[0]) / 2, (height - box[1]) / 2, *box)


def _boxed(image: np.ndarray, method: str, box: tuple, face: Face | None, detected: bool, settings: Settings) -> Crop:
    """Return the crop that shows a box of the picture."""
    matrix = geometry.box_transform(box, settings.size, settings.margin)
    return Crop(geometry.warp(image, matrix, (settings.side, settings.side)), method, box, face, detected)


def _content(path: Path, sha256: str) -> bytes:
    """Return the bytes of a picture, after comparing them with its SHA-256."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NormaliseError(f"cannot read {path}: {error.strerror}. Run `dvc repro -f validate`.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NormaliseError(
            f"{path} has changed since it was validated (another SHA-256). Run `dvc repro -f validate`."
        )
    return content


def _find(image: np.ndarray, sha256: str, settings: Settings) -> tuple[Face | None, bool]:
    """Return the picture's face, and whether the detector had to run for it."""
    detector = detectors.shared(settings.detector)
    cache = None if settings.cache is None else DetectionCache(settings.cache, detector.settings)
    if cache is not None:
        known, face = cache.get(sha256)
        if known:
            return face, False
    face = detectors.detect(image, detector)
    if cache is not None:
        cache.put(sha256, face)
    return face, True
