"""Frames to rows, in order and in constant memory: detection on all cores, scoring in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from covpool.images.opener import PictureError
from covpool.pipeline.cores import usable_cores
from covpool.pipeline.process_pool import in_order
from covpool.predict.predictor import Face, Predictor
from covpool.predict.sources import Frame, reason
from covpool.predict.tracking import Tracker, softmax

#: Frames in work for each thread, beside a batch of them: detection goes on while a batch is scored.
AHEAD = 2
#: What the row of a picture without a face says.
NO_FACE = "no face"


@dataclass
class Result:
    """What was found in a frame.

    Attributes:
        frame: its source, number and time.
        pixels: uint8 [h, w, 3], if they were asked for.
        faces: in it.
        tracks: for each face its track's number, or None for a photo.
        probabilities: for each face [classes]; of a video, averaged over its track.
        reason: why nothing could be read.
    """

    frame: Frame
    pixels: np.ndarray | None
    faces: list[Face] = field(default_factory=list)
    tracks: list[int | None] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    reason: str = ""


def results(
    predictor: Predictor, frames: Iterable[Frame], explain: bool = False, keep_pixels: bool = False, live: bool = False
) -> Iterator[Result]:
    """Score frames.

    Args:
        predictor: to score with.
        frames: in the order of their time.
        explain: also explain each face.
        keep_pixels: keep the pictures in the results.
        live: give each result at once, before the next frame is taken.

    Yields:
        The results, in the frames' order.
    """
    threads = 1 if live else usable_cores()
    trackers: dict[str, Tracker] = {}
    waiting: list = []
    with ThreadPoolExecutor(threads) as pool:
        found = in_order(
            lambda frame: pool.submit(_find, predictor, frame, keep_pixels),
            frames,
            1 if live else AHEAD * threads + predictor.batch,
        )
        for each in found:
            waiting.append(each)
            enough = sum(len(findings) for _, _, findings, _ in waiting) >= predictor.batch
            if live or enough or len(waiting) >= predictor.batch:
                yield from _scored(predictor, waiting, explain, trackers)
                waiting.clear()
        yield from _scored(predictor, waiting, explain, trackers)


def _find(predictor, frame, keep_pixels):
    if frame.load is None:
        return frame, None, [], frame.reason
    try:
        pixels = frame.load()
    except (PictureError, OSError) as error:
        return frame, None, [], reason(error)
    return frame, pixels if keep_pixels else None, predictor.find(pixels), ""


def _scored(predictor, waiting, explain, trackers):
    faces = iter(predictor.score([finding for _, _, findings, _ in waiting for finding in findings], explain))
    for frame, pixels, findings, why in waiting:
        result = Result(frame, pixels, [next(faces) for _ in findings], reason=why)
        if frame.number is None:
            result.tracks = [None] * len(result.faces)
            result.probabilities = [np.array(list(face.probabilities.values())) for face in result.faces]
        else:
            if frame.source not in trackers:
                # Frames of a source follow each other: what was before is over.
                trackers.clear()
                trackers[frame.source] = Tracker()
            followed = trackers[frame.source].update(result.faces, frame.time)
            result.tracks = [track for track, _ in followed]
            result.probabilities = [softmax(logits) for _, logits in followed]
        yield result


def rows(result: Result, class_names: tuple[str, ...]) -> Iterator[dict]:
    """The rows of a result; one without scores if there is no face."""
    frame = result.frame
    place = {"source": frame.source, "frame": frame.number, "time": frame.time}
    if not result.faces:
        yield {**place, "reason": result.reason or NO_FACE}
    for number, (face, track, scores) in enumerate(zip(result.faces, result.tracks, result.probabilities), 1):
        row = {**place, "face": number, "track": track}
        row.update(zip(("x", "y", "width", "height"), (round(float(value), 3) for value in face.box)))
        row["face_score"] = round(face.score, 6)
        row["expression"] = class_names[int(scores.argmax())]
        row.update((f"p_{name}", round(float(value), 6)) for name, value in zip(class_names, scores))
        if track is not None:
            row.update((f"raw_p_{name}", round(value, 6)) for name, value in face.probabilities.items())
        if face.points is None:
            row["reason"] = NO_FACE + ", the middle was taken"
        if face.explanation is not None:
            row["explanation"] = {
                "class": face.explanation.class_name,
                "difference": round(face.explanation.difference, 6),
                "completeness_error": round(face.explanation.completeness_error, 6),
                "map": np.round(face.explanation.map, 5).tolist(),
            }
        yield row
