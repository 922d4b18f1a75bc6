"""Whether the explanation finds what a network looks at: how far a face's score falls when the evidence is greyed out.

V. Petsiuk, A. Das, K. Saenko: RISE, BMVC 2018, at one point of the curve: the cells that the map ranks first are greyed
out. A map that knows nothing does no better than cells drawn at random.
"""

from __future__ import annotations

import numpy as np

from covpool.predict.explanation import Explainer
from covpool.predict.model import Model

#: Share of the cells that is greyed out, and faces that are looked at: more change the mean by little.
SHARE, FACES = 0.2, 24
SEED = 666


def scores(model: Model, faces: np.ndarray) -> dict[str, float]:
    """Mean probability of the predicted class, untouched and after greying.

    Args:
        model: with matrices.
        faces: uint8 [n, size, size, 3]; some of them are taken, evenly.

    Returns:
        `untouched`, `explained` (cells that the map ranks first), `random` (as many at random), and
        `completeness_error`, the median over the faces.
    """
    faces = np.ascontiguousarray(faces[np.linspace(0, len(faces) - 1, min(FACES, len(faces))).astype(int)])
    found = model(faces, ("probabilities", "bimap", "positions"))
    classes = found["probabilities"].argmax(1)
    explainer, rng = Explainer(model), np.random.default_rng(SEED)
    explained, random, errors = [], [], []
    for place, face in enumerate(faces):
        result = explainer(found["bimap"][place], found["positions"][place], int(classes[place]))
        errors.append(result.completeness_error)
        explained.append(_greyed(face, result.map))
        random.append(_greyed(face, rng.random(result.map.shape)))

    def mean(pictures):
        probabilities = model(np.stack(pictures), ("probabilities",))["probabilities"]
        return round(float(probabilities[np.arange(len(classes)), classes].mean()), 4)

    return {
        "untouched": mean(faces),
        "explained": mean(explained),
        "random": mean(random),
        "completeness_error": round(float(np.median(errors)), 6),
    }


def _greyed(face: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The face with the cells of the highest ranks in its mean colour."""
    count = round(SHARE * ranks.size)
    first = np.zeros(ranks.size, bool)
    first[np.argsort(-ranks.ravel(), kind="stable")[:count]] = True
    side, cells = len(face), len(ranks)
    cell = np.arange(side) * cells // side
    picture = face.copy()
    picture[first.reshape(ranks.shape)[np.ix_(cell, cell)]] = face.mean((0, 1)).round().astype(np.uint8)
    return picture
