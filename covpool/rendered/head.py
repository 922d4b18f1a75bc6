"""The geometry of one person's head, at rest and with an expression on it.

Everything is kept in the frame of the base mesh (dm; x to the person's left, y up, z forward); a picture's pose turns
the camera and the lights instead. "Template" coordinates are those of the unshaped base mesh: a place on the face has
the same template coordinates in every person and every expression, so that paint, hair and creases are laid there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covpool.rendered.assets import MASKS, FaceAssets
from covpool.rendered.expressions import Expression
from covpool.rendered.people import Person

CREASE_WIDTH = 0.020  # dm in the template, half width of a fold
CREASE_DEPTH = 0.014  # dm at full strength
FRONT = 0.9  # template z beyond which a vertex belongs to the face

# Folds in template (x, y) on the person's left, mirrored to the right, and the action units that press them in.
CREASES: dict[str, tuple[tuple[tuple[float, float], ...], dict[str, float]]] = {
    "forehead, low": (((0.00, 7.70), (0.30, 7.735), (0.50, 7.70)), {"AU1": 0.8, "AU2": 0.6}),
    "forehead, middle": (((0.00, 7.80), (0.30, 7.83), (0.48, 7.80)), {"AU1": 0.8, "AU2": 0.7}),
    "forehead, high": (((0.00, 7.90), (0.28, 7.92), (0.42, 7.89)), {"AU1": 0.5, "AU2": 0.5}),
    "glabella": (((0.055, 7.38), (0.065, 7.47), (0.05, 7.57)), {"AU4": 1.2}),
    "nose root": (((0.00, 7.335), (0.08, 7.35)), {"AU9": 0.9, "AU4": 0.35}),
    "nose bridge": (((0.00, 7.25), (0.09, 7.28)), {"AU9": 1.0}),
    "nose side": (((0.07, 7.20), (0.13, 7.10)), {"AU9": 0.9}),
    "nasolabial": (((0.19, 6.95), (0.28, 6.83), (0.35, 6.70), (0.37, 6.60)), {"AU12": 0.8, "AU9": 0.8, "AU10": 0.6}),
    "crow's foot, upper": (((0.52, 7.30), (0.62, 7.35)), {"AU6": 0.8}),
    "crow's foot, lower": (((0.52, 7.25), (0.62, 7.22)), {"AU6": 0.9}),
    "under the eye": (((0.20, 7.16), (0.32, 7.12), (0.44, 7.15)), {"AU6": 0.7, "AU7": 0.5}),
    "mouth corner": (((0.29, 6.60), (0.33, 6.48)), {"AU15": 0.9, "AU20": 0.4}),
    "chin": (((0.00, 6.40), (0.12, 6.385), (0.2, 6.35)), {"AU17": 0.9, "AU15": 0.3}),
}
AGE_CREASES = {"nasolabial": 0.55, "under the eye": 0.5, "forehead, middle": 0.25, "mouth corner": 0.3}


@dataclass(frozen=True)
class Eyeball:
    """An eyeball: its centre [3] and radius in dm, and the unit vector [3] in the direction of the pupil."""

    centre: np.ndarray
    radius: float
    gaze: np.ndarray


@dataclass(frozen=True)
class Patch:
    """A coloured surface: vertices, normals and linear RGB colours, float32 [m, 3] each, and quads int32 [f, 4]."""

    vertices: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    quads: np.ndarray


@dataclass(frozen=True)
class PosedHead:
    """A head with an expression.

    Attributes:
        vertices: float32 [m, 3], refined.
        normals: float32 [m, 3], unit length.
        folds: float32 [m], how deeply a vertex lies in a crease, 0 to about 1.
        eyes: the eyeballs on the image's left and right.
        landmarks: float64 [5, 3]: eye on the image's left, eye on its right, nose tip, mouth corner left, right.
    """

    vertices: np.ndarray
    normals: np.ndarray
    folds: np.ndarray
    eyes: tuple[Eyeball, Eyeball]
    landmarks: np.ndarray


class Head:
    """One person's head, ready to be posed."""

    def __init__(self, assets: FaceAssets, person: Person) -> None:
        self.assets = assets
        self.person = person
        self.template = assets.refine(assets.base)
        self.coarse = assets.displaced(assets.base, person.shape)
        self.neutral = assets.refine(self.coarse)
        self.neutral_normals = vertex_normals(self.neutral, assets.quads)
        self._creases = {name: _crease(self.template, assets, line) for name, (line, _) in CREASES.items()}

    def pose(self, expression: Expression) -> PosedHead:
        """Apply an expression: displace the mesh, fold the skin, turn the eyes."""
        coarse = self.assets.displaced(self.coarse, expression.shapes())
        smooth = self.assets.refine(coarse)
        folds = self._folds(expression)
        normals = vertex_normals(smooth, self.assets.quads)
        vertices = smooth - CREASE_DEPTH * folds[:, None] * normals
        eyes = tuple(self._eyeball(side, expression.gaze) for side in (0, 1))
        fronts = [eye.centre + eye.radius * np.array([0.0, 0.0, 1.0]) for eye in eyes]
        return PosedHead(
            vertices=vertices.astype(np.float32),
            normals=vertex_normals(vertices, self.assets.quads),
            folds=folds,
            eyes=eyes,
            landmarks=np.array([*fronts, *coarse[self.assets.landmarks]], np.float64),
        )

    def _folds(self, expression: Expression) -> np.ndarray:
        total = np.zeros(len(self.template), np.float32)
        for name, (_, units) in CREASES.items():
            depth = sum(share * expression.strength(unit) for unit, share in units.items())
            depth = depth * (0.6 + 0.6 * self.person.age) + AGE_CREASES.get(name, 0.0) * self.person.age
            total += np.float32(min(depth, 1.2)) * self._creases[name]
        return total

    def _eyeball(self, side: int, gaze: tuple[float, float]) -> Eyeball:
        """Return an eyeball. Expressions turn the eyes but do not move them: the sphere is that of the face at rest."""
        centre, radius = fit_sphere(self.coarse[self.assets.eye_vertices[side]])
        left, up = np.radians(gaze)
        direction = np.array([np.sin(left) * np.cos(up), np.sin(up), np.cos(left) * np.cos(up)])
        return Eyeball(centre, radius, direction)


def vertex_normals(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Return area-weighted unit normals float32 [m, 3] of quads [f, 4]; they are zero for a vertex without a quad."""
    corners = vertices[quads]
    across = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    count = len(vertices)
    total = np.stack([np.bincount(quads.ravel(), np.repeat(part, 4), minlength=count) for part in across.T], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.where(length > 0, length, 1)).astype(np.float32)


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a sphere to points [k, 3] by linear (algebraic) least squares; returns its centre [3] and its radius."""
    points = points.astype(np.float64)
    system = np.column_stack([2 * points, np.ones(len(points))])
    *centre, rest = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0]
    centre = np.array(centre)
    return centre, float(np.sqrt(rest + centre @ centre))


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Return the cubic ramp 3t^2 - 2t^3 from 0 at `low` to 1 at `high`; it falls if low > high."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def distance_to_line(points: np.ndarray, line: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return the distance [k] of points [k, 2] to an open polyline."""
    nearest = np.full(len(points), np.inf)
    for start, end in zip(np.array(line)[:-1], np.array(line)[1:], strict=True):
        along = end - start
        t = np.clip((points - start) @ along / (along @ along), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - start - t[:, None] * along, axis=1))
    return nearest


def _crease(template: np.ndarray, assets: FaceAssets, line: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return how deep each vertex lies in a fold, float32 [m] in [0, 1]. Only the outer skin of the face folds."""
    mirrored = np.column_stack([np.abs(template[:, 0]), template[:, 1]])
    inside = np.exp(-((distance_to_line(mirrored, line) / CREASE_WIDTH) ** 2))
    skin = (assets.part == 0) & (template[:, 2] > FRONT)
    hidden = assets.masks[:, MASKS.index("inside-mouth")] + assets.masks[:, MASKS.index("lips")]
    return (inside * skin * np.clip(1 - hidden, 0, 1)).astype(np.float32)
