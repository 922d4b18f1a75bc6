"""What to predict on: photos, folders, patterns, videos and cameras as one stream of frames.

Names are listed first; pictures are opened one at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from covpool.images import animations, opener

PICTURES = frozenset(suffix for suffixes in opener.SUFFIXES.values() for suffix in suffixes)
VIDEOS = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp", ".ts", ".y4m")
)
#: Of pictures that may be animations.
ANIMATIONS = (".gif", ".webp", ".png", ".apng")
CAMERA = "camera:"
#: Frames in a row that can't be decoded before a video counts as ended.
BROKEN_IN_A_ROW = 50
#: Of a video that does not say how many frames a second it has.
FRAME_RATE = 25.0


@dataclass(frozen=True)
class Frame:
    """A picture to score.

    Attributes:
        source: path, or `camera:0`.
        number: of the frame, from 0; None: a photo.
        time: of the frame in seconds; None: a photo.
        load: returns uint8 [h, w, 3] RGB; raises PictureError or OSError. None: there is nothing to read.
        reason: why there is nothing to read.
        rate: frames a second of what it belongs to.
    """

    source: str
    number: int | None = None
    time: float | None = None
    load: Callable[[], np.ndarray] | None = None
    reason: str = ""
    rate: float = FRAME_RATE


def names(inputs: list[str]) -> Iterator[tuple[str, str]]:
    """Yield (name, reason) for each photo, video and camera that the inputs name; reason: why there is none.

    Folders are searched with all that is in them; of their files those with the ending of a picture or video count.
    """
    for each in inputs:
        path = Path(each)
        if each.startswith(CAMERA) or path.is_file():
            yield each, ""
        elif path.is_dir():
            found = False
            for name in _inside(path):
                found = True
                yield name, ""
            if not found:
                yield each, "the folder has no picture or video"
        elif any(character in each for character in "*?["):
            matches = sorted(match for match in glob.iglob(each, recursive=True) if os.path.isfile(match))
            yield from ((match, "") for match in matches)
            if not matches:
                yield each, "no file fits this pattern"
        else:
            yield each, "no such file or folder"


def _inside(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in PICTURES | VIDEOS:
                yield os.path.join(place, name)


def frames(name: str, every: int = 1, broken: Callable[[], None] = lambda: None) -> Iterator[Frame]:
    """Yield the frames of a photo, video or camera.

    Args:
        name: a path, or `camera:N`.
        every: of a video, take each such frame only.
        broken: called for each frame that can't be decoded.
    """
    if name.startswith(CAMERA):
        yield from _camera(name, every, broken)
    elif Path(name).suffix.lower() in VIDEOS:
        yield from _video(name, cv2.VideoCapture(name), "no frame of this video can be decoded", every, broken)
    else:
        yield from _photo(name, every)


def _photo(name: str, every: int) -> Iterator[Frame]:
    if not _animated(Path(name)):
        yield Frame(name, load=lambda: opener.decode_picture(Path(name).read_bytes(), name))
        return
    try:
        for number, (pixels, time) in enumerate(animations.read_frames(Path(name).read_bytes(), name)):
            if number % every == 0:
                yield Frame(name, number, time, lambda pixels=pixels: pixels)
    except (opener.PictureError, OSError) as error:
        yield Frame(name, reason=reason(error))


def _animated(path: Path) -> bool:
    try:
        return path.suffix.lower() in ANIMATIONS and animations.is_animated(path.read_bytes())
    except OSError:
        return False


def _camera(name: str, every: int, broken: Callable[[], None]) -> Iterator[Frame]:
    number = name[len(CAMERA) :]
    if not number.isdigit():
        yield Frame(name, reason=f"expected {CAMERA} and a number, such as {CAMERA}0")
        return
    message = f"there is no camera {number}, or another program uses it"
    yield from _video(name, cv2.VideoCapture(int(number)), message, every, broken)


def _video(
    name: str, capture: cv2.VideoCapture, message: str, every: int, broken: Callable[[], None]
) -> Iterator[Frame]:
    try:
        rate = capture.get(cv2.CAP_PROP_FPS) or FRAME_RATE
        rate = rate if 0 < rate < 1000 else FRAME_RATE
        total = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        number = in_a_row = seen = 0
        while in_a_row < BROKEN_IN_A_ROW:
            grabbed = capture.isOpened() and capture.grab()
            if not grabbed and number >= total:
                break
            # A frame that is left out need not be decoded.
            if grabbed and number % every:
                number, in_a_row = number + 1, 0
                continue
            whole, pixels = capture.retrieve() if grabbed else (False, None)
            if whole and pixels is not None:
                in_a_row, seen = 0, seen + 1
                pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
                yield Frame(name, number, round(number / rate, 3), lambda pixels=pixels: pixels, rate=rate / every)
            else:
                in_a_row += 1
                broken()
            number += 1
        if not seen:
            yield Frame(name, reason=message)
    finally:
        capture.release()


def reason(error: Exception) -> str:
    """Why a picture could not be read, in a few words."""
    if isinstance(error, opener.PictureError):
        return error.reason
    return getattr(error, "strerror", None) or str(error)
