"""Draws what was found: boxes, points, class and score on a picture; an explanation over its crop."""

from __future__ import annotations

import cv2
import numpy as np

BOX, POINT, TEXT, BAR = (255, 200, 0), (0, 230, 80), (255, 255, 255), (80, 160, 255)
#: Pixels: sides of an explanation's picture, and of the line of text below it.
SIDE = 300


def annotated(pixels: np.ndarray, rows: list[tuple]) -> np.ndarray:
    """Draw faces on a copy of a picture.

    Args:
        pixels: uint8 [h, w, 3] RGB.
        rows: for each face its `Face`, its track or None, its class, and the class's probability.
    """
    picture = np.ascontiguousarray(pixels).copy()
    thick = max(1, round(min(picture.shape[:2]) / 300))
    for face, track, expression, probability in rows:
        x, y, width, height = (round(value) for value in face.box)
        cv2.rectangle(picture, (x, y), (x + width, y + height), BOX, thick)
        for point in [] if face.points is None else face.points:
            cv2.circle(picture, (round(point[0]), round(point[1])), thick + 1, POINT, -1, cv2.LINE_AA)
        label = f"{'' if track is None else f'#{track} '}{_plain(expression)} {probability:.2f}"
        scale = max(0.4, min(1.0, width / 160))
        (wide, high), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        # Above the box, or inside it at the picture's edge; the bar below the text is as long as the score.
        base = y - 8 if y - high - 12 >= 0 else y + high + 8
        cv2.rectangle(picture, (x, base - high - 4), (x + wide + 4, base + 6), (0, 0, 0), -1)
        cv2.putText(picture, label, (x + 2, base), cv2.FONT_HERSHEY_SIMPLEX, scale, TEXT, thick, cv2.LINE_AA)
        cv2.rectangle(picture, (x, base + 3), (x + round(probability * (wide + 4)), base + 6), BAR, -1)
    return picture


def explained(crop: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lay a map over its crop: red speaks for the class, blue against it. Returns uint8 [SIDE, 2 SIDE, 3]."""
    grey = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    scaled = values / max(float(np.abs(values).max()), 1e-12)
    scaled = cv2.resize(scaled.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., np.newaxis]
    colour = np.where(scaled > 0, np.float32((220, 30, 30)), np.float32((30, 80, 220)))
    share = np.minimum(np.abs(scaled), 1.0) * 0.75
    over = cv2.cvtColor(cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) * (1 - share) + colour * share
    return np.concatenate([grey, over.round().astype(np.uint8)], axis=1)


def _plain(text: str) -> str:
    """OpenCV's font has ASCII only."""
    return text.encode("ascii", "replace").decode()
