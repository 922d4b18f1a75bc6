"""The annotated pictures and videos, and the explanations, that `covpool predict` writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

from covpool.predict import drawing
from covpool.predict.predictor import InputError
from covpool.predict.stream import Result

#: VP8 in WebM: the OpenCV package can write it, and every browser plays it. It has no encoder for H.264.
VIDEO_SUFFIX, CODEC = ".webm", "VP80"


class Album:
    """Writes pictures to folders. Use as a context: a video's file is complete at the end."""

    def __init__(self, annotate: Path | None, explain: Path | None) -> None:
        self._annotate, self._explain = annotate, explain
        self._video: cv2.VideoWriter | None = None
        self._source = ""
        self._size = (0, 0)

    def __enter__(self) -> Album:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, result: Result, class_names: tuple[str, ...]) -> None:
        """Write what was asked for of a result. Raises OSError if a file can't be written."""
        if self._explain is not None:
            for number, face in enumerate(result.faces, 1):
                if face.explanation is not None:
                    frame = "" if result.frame.number is None else f"-frame{result.frame.number}"
                    path = self._explain / f"{file_stem(result.frame.source)}{frame}-face{number}.png"
                    _write(path, drawing.explained(face.crop, face.explanation.map))
        if self._annotate is not None and result.pixels is not None:
            self._annotated(result, class_names)

    def _annotated(self, result, class_names):
        drawn = [
            (face, track, class_names[int(scores.argmax())], float(scores.max()))
            for face, track, scores in zip(result.faces, result.tracks, result.probabilities)
        ]
        picture = drawing.annotated(result.pixels, drawn)
        frame = result.frame
        if frame.number is None:
            _write(self._annotate / (file_stem(frame.source) + ".jpg"), picture)
            return
        # The encoder needs even sides, the same in all frames.
        if self._video is None or self._source != frame.source:
            self._close()
            self._size = tuple(max(2, length // 2 * 2) for length in picture.shape[1::-1])
            self._annotate.mkdir(parents=True, exist_ok=True)
            path = self._annotate / (file_stem(frame.source) + VIDEO_SUFFIX)
            self._video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*CODEC), frame.rate, self._size)
            self._source = frame.source
            if not self._video.isOpened():
                self._video = None
                raise InputError(f"--annotate: can't write the video {path}. Check that this folder can be written to")
        if picture.shape[1::-1] != self._size:
            picture = picture[: self._size[1], : self._size[0]]
            if picture.shape[1::-1] != self._size:
                picture = cv2.resize(picture, self._size)
        self._video.write(np.ascontiguousarray(picture[..., ::-1]))

    def _close(self):
        if self._video is not None:
            self._video.release()
            self._video = None


def file_stem(source: str) -> str:
    """A file name for what was made of a source: its own name, and a mark by which equal names stay apart."""
    mark = hashlib.sha256(str(Path(source).absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:6]
    name = Path(source).name.replace(":", "").replace(".", "_")
    return f"{name}-{mark}"


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole, content = cv2.imencode(path.suffix, pixels[..., ::-1])
    if not whole:
        raise InputError(
            f"{path}: can't write a picture of {pixels.shape[1]}x{pixels.shape[0]} pixels as {path.suffix}"
        )
    path.write_bytes(content.tobytes())
