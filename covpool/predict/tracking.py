"""Follows faces through a video, and averages their logits over time.

A face continues the track whose last box it overlaps most, by the intersection over union of the boxes. The scores of a
track are the exponential moving average of its logits with time constant `TIME_CONSTANT`: after a gap of t seconds the
new frame weighs 1 - exp(-t / TIME_CONSTANT). The raw scores stay beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Seconds over which the logits of a track are averaged.
TIME_CONSTANT = 0.3
#: Least overlap (intersection over union) of a face with the last box of its track.
LEAST_OVERLAP = 0.3
#: Seconds after which a track without a face ends.
PATIENCE = 1.0


@dataclass
class _Track:
    number: int
    box: tuple[float, float, float, float]
    logits: np.ndarray
    time: float


class Tracker:
    """Tracks of one video, numbered from 1."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._count = 0

    def update(self, faces: list, time: float) -> list[tuple[int, np.ndarray]]:
        """Take note of the faces of one frame.

        Args:
            faces: each with `box` (x, y, width, height) and `logits` [classes].
            time: of the frame in seconds; later frames have larger ones.

        Returns:
            For each face the number of its track and its averaged logits.
        """
        self._tracks = [track for track in self._tracks if time - track.time <= PATIENCE]
        pairs = sorted(
            (
                (overlap(face.box, track.box), place, track)
                for place, face in enumerate(faces)
                for track in self._tracks
            ),
            key=lambda pair: -pair[0],
        )
        chosen: dict[int, _Track] = {}
        for share, place, track in pairs:
            if share >= LEAST_OVERLAP and place not in chosen and track not in chosen.values():
                chosen[place] = track
        return [self._continued(chosen.get(place), face, time) for place, face in enumerate(faces)]

    def _continued(self, track, face, time):
        if track is None:
            self._count += 1
            track = _Track(self._count, face.box, face.logits.astype(np.float64), time)
            self._tracks.append(track)
        else:
            weight = 1 - math.exp(-max(time - track.time, 0.0) / TIME_CONSTANT)
            track.logits = track.logits + weight * (face.logits - track.logits)
            track.box, track.time = face.box, time
        return track.number, track.logits.copy()


def overlap(first: tuple, second: tuple) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (first[2] * first[3] + second[2] * second[3] - common)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits [classes]."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()
