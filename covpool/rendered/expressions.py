"""Seven facial expressions as action units, and action units as shapes of the mesh.

Action units (AU) are those of Ekman and Friesen's Facial Action Coding System (1978); which of them make up a basic
emotion follows the EMFACS tables as given by Matsumoto, Keltner, Shiota, O'Sullivan and Frank (Facial expressions of
emotion, in Handbook of Emotions, 2008). The shapes are the ARKit face units of the asset pack, whose names say where
they act. A class has more than one recipe, since people have more than one way to show it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from covpool.config.vocabulary import CANONICAL

CLASSES = CANONICAL

# AU: what it is called, and the shapes that draw it at intensity 1. "*" stands for Left and Right. Weights above one
# over-drive a shape: the asset pack's brow shapes move a brow by 2 mm only, a frown or a raise by twice that.
ACTION_UNITS: dict[str, tuple[str, dict[str, float]]] = {
    "AU1": ("inner brow raiser", {"browInnerUp": 1.5}),
    "AU2": ("outer brow raiser", {"browOuterUp*": 1.3}),
    "AU4": ("brow lowerer", {"browDown*": 1.5}),
    "AU5": ("upper lid raiser", {"eyeWide*": 1.2}),
    "AU6": ("cheek raiser", {"cheekSquint*": 0.9, "eyeSquint*": 0.5}),
    "AU7": ("lid tightener", {"eyeSquint*": 1.1, "eyeBlink*": 0.12}),
    "AU9": ("nose wrinkler", {"noseSneer*": 1.5, "mouthUpperUp*": 0.35}),
    "AU10": ("upper lip raiser", {"mouthUpperUp*": 1.0}),
    "AU12": ("lip corner puller", {"mouthSmile*": 0.9}),
    "AU14": ("dimpler", {"mouthDimple*": 0.8}),
    "AU15": ("lip corner depressor", {"mouthFrown*": 1.2}),
    "AU16": ("lower lip depressor", {"mouthLowerDown*": 1.0}),
    "AU17": ("chin raiser", {"mouthShrugLower": 0.8, "mouthShrugUpper": 0.4}),
    "AU20": ("lip stretcher", {"mouthStretch*": 1.2}),
    "AU22": ("lip funneler", {"mouthFunnel": 0.8}),
    "AU23": ("lip tightener", {"mouthPress*": 0.5, "mouthRollUpper": 0.5, "mouthRollLower": 0.4}),
    "AU24": ("lip pressor", {"mouthPress*": 0.9, "mouthShrugLower": 0.3}),
    "AU25": ("lips part", {"mouthUpperUp*": 0.5, "mouthLowerDown*": 0.5}),
    "AU26": ("jaw drop", {"jawOpen": 0.4}),
    "AU27": ("mouth stretch", {"jawOpen": 0.85}),
    "AU43": ("eye closure", {"eyeBlink*": 1.0}),
}

RECIPES: dict[str, tuple[dict[str, float], ...]] = {
    "anger": (
        {"AU4": 1.0, "AU5": 0.45, "AU7": 0.7, "AU23": 0.6, "AU24": 0.5},
        {"AU4": 1.0, "AU5": 0.5, "AU7": 0.6, "AU9": 0.25, "AU10": 0.5, "AU16": 0.9, "AU25": 0.6, "AU26": 0.35},
    ),
    "disgust": (
        {"AU4": 0.3, "AU7": 0.6, "AU9": 1.0, "AU10": 0.6, "AU15": 0.4, "AU17": 0.4},
        {"AU4": 0.3, "AU6": 0.4, "AU7": 0.5, "AU9": 1.0, "AU10": 1.0, "AU16": 0.5, "AU25": 0.6, "AU26": 0.2},
    ),
    "fear": (
        {"AU1": 1.0, "AU2": 0.5, "AU4": 0.5, "AU5": 1.0, "AU20": 1.0, "AU25": 0.8, "AU26": 0.5},
        {"AU1": 1.0, "AU2": 0.4, "AU4": 0.6, "AU5": 1.1, "AU16": 0.4, "AU20": 1.1, "AU25": 0.5, "AU26": 0.1},
    ),
    "happiness": (
        {"AU6": 0.9, "AU12": 1.25},
        {"AU6": 0.9, "AU10": 0.5, "AU12": 1.25, "AU25": 1.0, "AU26": 0.35},
    ),
    "neutral": ({},),
    "sadness": (
        {"AU1": 1.1, "AU4": 0.35, "AU15": 1.0, "AU17": 0.5, "AU43": 0.08},
        {"AU1": 1.1, "AU4": 0.5, "AU7": 0.4, "AU15": 1.2, "AU17": 0.9, "AU43": 0.12},
    ),
    "surprise": (
        {"AU1": 1.0, "AU2": 1.0, "AU5": 0.8, "AU25": 0.3, "AU26": 0.9},
        {"AU1": 0.9, "AU2": 1.0, "AU5": 0.9, "AU22": 0.4, "AU27": 0.8},
    ),
}

INTENSITY = (0.95, 1.2)  # of a whole expression
UNIT_SPREAD = 0.12  # standard deviation of one unit's share in it
ASYMMETRY = 0.10  # standard deviation of the difference between the two sides
# Faces are never quite at rest.
STRAY_UNITS = ("AU1", "AU2", "AU4", "AU7", "AU14", "AU15", "AU17", "AU23", "AU25", "AU43")
STRAY_SCALE = 0.07  # mean intensity of a stray unit
BLINK = 0.08  # the largest lid drop that is mere chance
GAZE_SPREAD = (6.0, 3.5)  # degrees, to the side and up


@dataclass(frozen=True)
class Expression:
    """A posed face.

    Attributes:
        units: action unit -> (intensity on the person's left, on the right).
        gaze: degrees to the person's left and up.
    """

    units: dict[str, tuple[float, float]] = field(default_factory=dict)
    gaze: tuple[float, float] = (0.0, 0.0)

    def shapes(self) -> dict[str, float]:
        """Return the weights of the asset pack's face units. If two units use one shape, their weights are added."""
        weights: dict[str, float] = {}
        for unit, sides in self.units.items():
            for shape, share in ACTION_UNITS[unit][1].items():
                for name, intensity in _sided(shape, sides):
                    weights[name] = weights.get(name, 0.0) + share * intensity
        return weights

    def strength(self, unit: str) -> float:
        """Return the mean intensity of an action unit over both sides, or 0 if the expression does not use it."""
        return float(np.mean(self.units.get(unit, (0.0, 0.0))))


def sample_expression(name: str, rng: np.random.Generator) -> Expression:
    """Draw a class's recipe, its intensity, the units' shares and the asymmetry; add the stray units and a gaze."""
    if name not in RECIPES:
        raise ValueError(f"unknown expression: expected one of {', '.join(CLASSES)}, got {name!r}")
    recipe = RECIPES[name][rng.integers(len(RECIPES[name]))]
    overall = rng.uniform(*INTENSITY)
    units = {}
    for unit, share in recipe.items():
        level = overall * share * max(0.4, 1 + UNIT_SPREAD * rng.standard_normal())
        units[unit] = _lopsided(level, rng)
    for unit in STRAY_UNITS:
        stray = STRAY_SCALE * rng.exponential()
        if unit not in units and rng.random() < 0.4:
            units[unit] = _lopsided(stray, rng)
    lids = rng.uniform(0, BLINK)
    units["AU43"] = tuple(side + lids for side in units.get("AU43", (0.0, 0.0)))
    gaze = tuple(float(g * s) for g, s in zip(np.clip(rng.standard_normal(2), -2, 2), GAZE_SPREAD, strict=True))
    return Expression(units, gaze)


def plain_expression(name: str, intensity: float = 1.0) -> Expression:
    """Return the first recipe of a class, without random variation."""
    if name not in RECIPES:
        raise ValueError(f"unknown expression: expected one of {', '.join(CLASSES)}, got {name!r}")
    return Expression({unit: (intensity * share, intensity * share) for unit, share in RECIPES[name][0].items()})


def _sided(shape: str, sides: tuple[float, float]) -> list[tuple[str, float]]:
    if shape.endswith("*"):
        return [(shape[:-1] + "Left", sides[0]), (shape[:-1] + "Right", sides[1])]
    return [(shape, (sides[0] + sides[1]) / 2)]


def _lopsided(level: float, rng: np.random.Generator) -> tuple[float, float]:
    tilt = ASYMMETRY * rng.standard_normal()
    return float(level * max(0.0, 1 + tilt)), float(level * max(0.0, 1 - tilt))
