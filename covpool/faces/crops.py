"""What becomes of one picture: its face found, turned upright and cut out, or the fallback where there is none.

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
    """The data can't be normalised as asked; the message says what is wrong where."""


@dataclass(frozen=True)
class Settings:
    """All that the crop of a picture depends on beside its bytes, and where to find them."""

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
                raise NormaliseError(f"{name} is {value!r}: choose one of {', '.join(choices)}")
        if self.size < 1 or self.margin < 0:
            raise NormaliseError(f"size is {self.size} and margin {self.margin}: wanted 1 or more and 0 or more pixels")
        if not 0 <= self.min_score <= 1:
            raise NormaliseError(f"min_score is {self.min_score}: a score lies between 0 and 1")

    @property
    def side(self) -> int:
        """Side of a crop with its margin, in pixels."""
        return self.size + 2 * self.margin


@dataclass(frozen=True)
class Crop:
    """What became of a picture: `image` uint8 [side, side, 3] (None: dropped), how, and the face if one was found.

    `method` is the detector's name, `none` (no face was looked for: taken as aligned), `center` or `drop`; `box` (x, y,
    width, height in pixels) is the face's, or the part of the picture that fills the frame. `detected` says whether the
    detector ran (else the cache knew).
    """

    image: np.ndarray | None
    method: str
    box: tuple[float, float, float, float] | None
    face: Face | None
    detected: bool


def normalise_picture(settings: Settings, row: dict[str, str]) -> Crop:
    """Return the crop of one picture of the manifest: a pure function of the picture's bytes and the settings.

    Raises PictureError for a picture that can't be read, NormaliseError if it isn't the manifest's, or if it has no
    face and the fallback is `fail`.
    """
    # Every core has a picture of its own; threads within one would only get in each other's way.
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
        best = "none was found" if face is None else f"the best one scores {face.score}"
        raise NormaliseError(
            f"no face with a score of {settings.min_score} or more in {row['path']}: {best}; "
            "lower normalise.min_score, or set normalise.fallback to center or drop"
        )
    if settings.fallback == "drop":
        return Crop(None, "drop", None, face, detected)
    side = float(min(height, width))
    return _boxed(image, "center", ((width - side) / 2, (height - side) / 2, side, side), face, detected, settings)


def _aligned_frame(width: int, height: int, settings: Settings) -> tuple[float, float, float, float]:
    """Return the box of a picture taken as aligned that fills the frame: its middle, or all of it.

    A picture of up to `size` pixels is the frame, and the margin around it can but repeat its edge. In a larger one the
    margin shows what the picture has there: from a picture of `side` pixels or more the middle size/side of it is the
    frame, as facenet and its successors crop from pictures somewhat larger than the network's input. In between pixels
    stay as they are.
    """
    longest = max(width, height)
    share = settings.size / min(max(longest, settings.size), settings.side)
    box = width * share, height * share
    return ((width - box[0]) / 2, (height - box[1]) / 2, *box)


def _boxed(image: np.ndarray, method: str, box: tuple, face: Face | None, detected: bool, settings: Settings) -> Crop:
    matrix = geometry.box_transform(box, settings.size, settings.margin)
    return Crop(geometry.warp(image, matrix, (settings.side, settings.side)), method, box, face, detected)


def _content(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NormaliseError(f"cannot read {path}: {error.strerror}; run the validation again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NormaliseError(f"{path} has changed since it was validated (another SHA-256); run the validation again")
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
