"""Hair, brows and beard as strands that grow from the skin, drawn as narrow ribbons.

Roots are drawn on the mesh with a density painted in template coordinates and stay on the moving skin. A scalp strand
walks outward in steps; each step turns it towards a style's combing direction and the ground and pushes it out of
three ellipsoids that stand for skull, face and neck, so that hair lies on the head instead of in it.

Ribbons and not Mitsuba's curves, because rays meet triangles faster: at 176 pixels a head of ribbons took 0.6 to 0.7
of the time of the same strands as B-splines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covpool.rendered.assets import MASKS
from covpool.rendered.head import Head, Patch, PosedHead, distance_to_line, smoothstep

# The hairline's template height over the angle from straight ahead, seen from above around the head's axis:
# forehead, temple, before the ear, behind the ear, nape.
HAIRLINE_ANGLES = (0, 25, 45, 60, 72, 82, 92, 105, 120, 140, 180)
HAIRLINE_HEIGHTS = (8.02, 8.03, 7.98, 7.86, 7.55, 7.25, 7.30, 7.30, 7.00, 6.70, 6.62)
HEAD_AXIS = (0.0, 0.35)  # template x and z of the axis that those angles turn around
HAIRLINE_SOFTNESS = 0.10  # dm

BROW_LINE = ((0.120, 7.474), (0.22, 7.497), (0.38, 7.512), (0.50, 7.485), (0.585, 7.435))
BROW_HALF_THICKNESS = 0.030  # dm at the inner end
BROW_HAIRS = 420  # both sides, at density one
BROW_HAIR_LENGTH = 0.075
BROW_HAIR_RADIUS = 0.0045
BROW_HAIR_LIFT = 0.18  # how far it stands off the skin, 0 flat
BEARD_HAIRS = 1500
BEARD_HAIR_RADIUS = 0.006
BEARD_HAIR_LIFT = 0.5
TIP = 0.35  # a ribbon's width at its tip, as a share of that at its root
TIP_LIGHT = 1.25  # tips have seen more sun than roots
SHADE_SPREAD = 0.22  # standard deviation of the logarithm of a strand's brightness

GROUND = np.array([0.0, -1.0, 0.0])


@dataclass(frozen=True)
class Strands:
    """Strands of k points each.

    Attributes:
        points: [n, k, 3], dm.
        radius: half of a strand's width at its root, dm.
        shade: [n], brightness relative to the hair's colour.
    """

    points: np.ndarray
    radius: float
    shade: np.ndarray


@dataclass(frozen=True)
class Style:
    """How a head of hair grows.

    Attributes:
        count: strands; steps: control points after the root; length, radius: dm.
        lift: how far a strand stands up from the skin at its root, 0 flat, 1 upright.
        forward, aside, down: the combing direction.
        stiffness: share of its direction that a strand keeps at each step.
        weight: pull of the ground at each step.
        unrest: random turn at each step; locks: neighbours that turn together, 0 for none.
    """

    count: int
    steps: int
    length: float
    radius: float
    lift: float
    forward: float
    aside: float
    down: float
    stiffness: float
    weight: float
    unrest: float
    locks: int


STYLES = {
    "cropped": Style(2600, 2, 0.09, 0.012, 0.8, 0.5, 0.0, 0.2, 0.6, 0.0, 0.15, 0),
    "short": Style(2200, 4, 0.40, 0.017, 0.40, 0.25, 0.8, 0.15, 0.55, 0.05, 0.20, 260),
    "swept back": Style(2200, 5, 0.85, 0.017, 0.30, -1.0, 0.15, 0.1, 0.45, 0.08, 0.12, 220),
    "fringe": Style(2200, 5, 0.80, 0.018, 0.20, 0.55, 0.35, 0.5, 0.5, 0.20, 0.10, 240),
    "curly": Style(2600, 4, 0.50, 0.017, 0.85, 0.0, 0.1, 0.0, 0.62, 0.03, 0.75, 500),
    "long": Style(2200, 7, 2.20, 0.021, 0.12, -0.35, 0.8, 0.3, 0.45, 0.35, 0.08, 200),
}


def scalp_region(head: Head) -> np.ndarray:
    """Return the density of hair, [m] in [0, 1], by the person's hairline; it is 0 on the ears."""
    x, y, z = head.template.T
    angle = np.degrees(np.arctan2(np.abs(x - HEAD_AXIS[0]), z - HEAD_AXIS[1]))
    heights = np.array(HAIRLINE_HEIGHTS) + head.person.hairline * (np.array(HAIRLINE_ANGLES) < 70)
    line = np.interp(angle, HAIRLINE_ANGLES, heights)
    skin = (head.assets.part == 0) * (1 - head.assets.masks[:, MASKS.index("ears")])
    return smoothstep(-HAIRLINE_SOFTNESS / 2, HAIRLINE_SOFTNESS / 2, y - line) * skin


def beard_region(head: Head) -> np.ndarray:
    """Return the density of beard, [m] in [0, 1], on jaw, chin and upper lip."""
    x, y, z = head.template.T
    side = np.abs(x)
    jaw = smoothstep(6.78, 6.62, y - 0.9 * np.clip(side - 0.38, 0, 1)) * smoothstep(6.02, 6.12, y)
    lip = smoothstep(6.70, 6.73, y) * smoothstep(6.86, 6.80, y) * smoothstep(0.34, 0.24, side)
    bare = head.assets.masks[:, [MASKS.index(name) for name in ("lips", "inside-mouth", "ears")]].sum(1)
    skin = (head.assets.part == 0) * (1 - np.clip(bare, 0, 1))
    before_ear = smoothstep(0.45, 0.65, z)
    return np.maximum(jaw * before_ear, lip) * skin


def brow_region(head: Head) -> np.ndarray:
    """Return the density of the brows, [m] in [0, 1]."""
    front = (head.template[:, 2] > 1.0) & (head.assets.part == 0)
    return _brow_density(head, head.template[:, :2]) * front


def scalp_strands(head: Head) -> Strands | None:
    """Return the hair of a head at rest, or None if it is bald. All expressions use it: they hardly move the scalp."""
    person = head.person
    if person.hair_style == "bald":
        return None
    style = STYLES[person.hair_style]
    rng = np.random.default_rng([person.texture_seed, 1])
    drawn = _draw_roots(head, scalp_region(head), style.count, rng)
    roots, normals, _ = _roots_at(head, drawn, head.neutral, head.neutral_normals)
    length = style.length * person.hair_length * rng.uniform(0.75, 1.1, len(roots))
    points = _grow(head, roots, normals, length, style, rng)
    return Strands(points, style.radius, _shades(len(points), rng))


def brow_strands(head: Head, posed: PosedHead) -> Strands:
    """Return both brows on the posed skin."""
    person = head.person
    rng = np.random.default_rng([person.texture_seed, 2])
    wanted = int(BROW_HAIRS * person.brow_density)
    drawn = _draw_roots(head, smoothstep(0, 0.05, brow_region(head)), 12 * wanted, rng)
    _, _, place = _roots_at(head, drawn, head.neutral, head.neutral_normals)
    kept = rng.random(len(place)) < _brow_density(head, place[:, :2])
    drawn = tuple(part[kept][:wanted] for part in drawn)
    roots, normals, place = _roots_at(head, drawn, posed.vertices, posed.normals)
    outward = np.sign(place[:, :1])
    inner = smoothstep(0.30, 0.12, np.abs(place[:, 0]))[:, None]
    flat = np.column_stack([np.ones(len(place)), 0.15 - 0.35 * smoothstep(0.35, 0.55, np.abs(place[:, 0]))])
    heading = np.column_stack([outward * (flat[:, :1] - 0.6 * inner), flat[:, 1:] + 0.8 * inner, 0 * outward])
    heading += 0.25 * rng.standard_normal(heading.shape)
    points = _short_strands(roots, normals, heading, BROW_HAIR_LENGTH, BROW_HAIR_LIFT, rng)
    return Strands(points, BROW_HAIR_RADIUS, _shades(len(points), rng))


def beard_strands(head: Head, posed: PosedHead) -> Strands | None:
    """Return the beard on the posed skin, or None if the person has at most stubble."""
    person = head.person
    if person.beard_length <= 0:
        return None
    rng = np.random.default_rng([person.texture_seed, 3])
    drawn = _draw_roots(head, beard_region(head), int(BEARD_HAIRS * person.beard), rng)
    roots, normals, _ = _roots_at(head, drawn, posed.vertices, posed.normals)
    heading = GROUND + 0.5 * rng.standard_normal(roots.shape)
    points = _short_strands(roots, normals, heading, person.beard_length, BEARD_HAIR_LIFT, rng)
    return Strands(points, BEARD_HAIR_RADIUS, _shades(len(points), rng))


def ribbons(strands: Strands, colour: tuple[float, float, float], centre: np.ndarray) -> Patch:
    """Convert strands to ribbons that lie flat around a centre [3], coloured by their shades."""
    points = strands.points
    count, length, _ = points.shape
    along = np.gradient(points, axis=1)
    across = _unit(np.cross(along, points - centre))
    normals = _unit(np.cross(across, along))
    place = np.linspace(0, 1, length)[None, :, None]
    half = strands.radius * (1 + (TIP - 1) * place**2) * across
    brightness = strands.shade[:, None, None] * (1 + (TIP_LIGHT - 1) * place)
    colours = np.broadcast_to((np.array(colour) * brightness).clip(0.001, 0.9), points.shape)
    segment = np.arange(length - 1)
    strip = np.stack([segment, segment + 1, length + segment + 1, length + segment], axis=1)
    quads = strip[None] + (2 * length * np.arange(count))[:, None, None]
    return Patch(
        vertices=np.concatenate([points - half, points + half], axis=1).reshape(-1, 3).astype(np.float32),
        normals=np.concatenate([normals, normals], axis=1).reshape(-1, 3).astype(np.float32),
        colours=np.concatenate([colours, colours], axis=1).reshape(-1, 3).astype(np.float32),
        quads=quads.reshape(-1, 4).astype(np.int32),
    )


def _shades(count: int, rng: np.random.Generator) -> np.ndarray:
    return np.exp(SHADE_SPREAD * rng.standard_normal(count))


def _brow_density(head: Head, place: np.ndarray) -> np.ndarray:
    """Return the density of brow hair at template places [k, 2], in [0, 1]. It decreases towards the outside."""
    mirrored = np.column_stack([np.abs(place[:, 0]), place[:, 1] - head.person.brow_height])
    taper = np.interp(mirrored[:, 0], [0.10, 0.16, 0.40, 0.60], [0.7, 1.0, 0.8, 0.3])
    half = BROW_HALF_THICKNESS * head.person.brow_thickness * taper
    return np.exp(-((distance_to_line(mirrored, BROW_LINE) / half) ** 4))


def _draw_roots(
    head: Head, density: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw places on the mesh by density per area: quads int [count], and two coordinates in each, [count] each."""
    quads = head.assets.quads
    corners = head.neutral[quads]
    area = np.linalg.norm(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]), axis=1) / 2
    weight = np.cumsum(area * density[quads].mean(1))
    quad = np.searchsorted(weight, rng.random(count) * weight[-1])
    return quad, rng.random(count), rng.random(count)


def _roots_at(
    head: Head,
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
    vertices: np.ndarray,
    normals: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions, normals and template places, [k, 3] each, of drawn roots on a posed mesh."""
    quad, u, v = drawn
    shares = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=1)[..., None]
    corners = head.assets.quads[quad]
    position, normal, place = ((field[corners] * shares).sum(1) for field in (vertices, normals, head.template))
    return position, _unit(normal), place


def _short_strands(
    roots: np.ndarray, normals: np.ndarray, heading: np.ndarray, length: float, lift: float, rng: np.random.Generator
) -> np.ndarray:
    """Make strands of five control points that lean along the skin, float32 [n, 5, 3]."""
    along = _unit(heading - (heading * normals).sum(1, keepdims=True) * normals)
    direction = _unit(along + lift * normals)
    reach = length * rng.uniform(0.6, 1.15, (len(roots), 1, 1))
    stations = np.array([-0.35, 0.0, 0.35, 0.7, 1.05])[None, :, None]
    return (roots[:, None] + 0.004 * normals[:, None] + reach * stations * direction[:, None]).astype(np.float32)


def _grow(
    head: Head, roots: np.ndarray, normals: np.ndarray, length: np.ndarray, style: Style, rng: np.random.Generator
) -> np.ndarray:
    """Grow strands [n, steps + 2, 3] from their roots, step by step."""
    skull, face, neck = _keep_out(head)
    parting = 0.25 * rng.choice([-1, 1]) * (head.person.hair_style != "long") + 0.05 * rng.standard_normal()
    side = np.tanh((roots[:, :1] - parting) / 0.1)
    comb = np.column_stack([style.aside * side, np.full(len(roots), -style.down), np.full(len(roots), style.forward)])
    if style.locks:
        seeds = roots[rng.choice(len(roots), style.locks, replace=False)]
        lock = ((roots[:, None] - seeds[None]) ** 2).sum(2).argmin(1)
    else:
        lock = np.arange(len(roots))
    # Hair stands up on the crown and lies flat at the sides.
    lift = style.lift / (1.05 - style.lift) * (0.35 + 0.65 * normals[:, 1:2].clip(0, 1))
    direction = _unit(_tangent(comb, normals) + lift * normals)
    step = (length / style.steps)[:, None]
    points = [roots - 0.02 * normals, roots + 0.3 * step * direction]
    for _ in range(style.steps):
        turn = 0.75 * rng.standard_normal((lock.max() + 1, 3))[lock] + 0.45 * rng.standard_normal(roots.shape)
        outward = _unit((points[-1] - skull[0]) / skull[1] ** 2)  # the ellipsoid's normal
        pull = style.stiffness * direction + (1 - style.stiffness) * _tangent(comb, outward)
        direction = _unit(pull + style.weight * GROUND + style.unrest * turn)
        moved = points[-1] + step * direction
        for solid in (skull, face, neck):
            moved = _push_out(moved, *solid)
        moved = _part_from_face(moved, np.sign(side), face)
        points.append(moved)
    return np.stack(points, axis=1)


def _keep_out(head: Head) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Measure the ellipsoids (centre [3], half axes [3]) of skull, face and neck on the person's vertices."""
    scalp = head.neutral[scalp_region(head) > 0.5]
    low, high = scalp.min(0), scalp.max(0)
    eyes = head.coarse[head.assets.eye_vertices].mean((0, 1))
    nose, left, right = head.coarse[head.assets.landmarks]
    half_width = (high[0] - low[0]) / 2
    bottom = eyes[1] - 0.15
    skull_centre = np.array([(low[0] + high[0]) / 2, bottom, (low[2] + high[2]) / 2])
    skull = (skull_centre, np.array([half_width * 0.98, high[1] - bottom, (high[2] - low[2]) / 2 * 0.98]))
    mouth = (left + right) / 2
    face_centre = np.array([skull_centre[0], (eyes[1] + mouth[1]) / 2, mouth[2] - 0.85])
    face = (face_centre, np.array([half_width * 1.13, 1.25, 1.15]))
    neck = (np.array([skull_centre[0], mouth[1] - 1.0, skull_centre[2] - 0.1]), np.array([0.8, 1.6, 0.75]))
    return skull, face, neck


def _push_out(points: np.ndarray, centre: np.ndarray, half_axes: np.ndarray) -> np.ndarray:
    """Move points inside an ellipsoid to its surface along their radius."""
    reach = np.linalg.norm((points - centre) / half_axes, axis=1, keepdims=True)
    return np.where(reach < 1, centre + (points - centre) / np.maximum(reach, 1e-6), points)


def _part_from_face(points: np.ndarray, side: np.ndarray, face: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Keep hair that hangs lower than the brows beside the face, on the side [n, 1] that it grew on."""
    centre, half_axes = face
    low = smoothstep(centre[1] + 1.0, centre[1] + 0.45, points[:, 1:2])
    in_front = smoothstep(centre[2] + 0.1, centre[2] + 0.5, points[:, 2:])
    least = 0.98 * half_axes[0] * low * in_front
    moved = points.copy()
    moved[:, :1] = centre[0] + side * np.maximum(side * (points[:, :1] - centre[0]), least)
    return moved


def _tangent(vectors: np.ndarray, normals: np.ndarray) -> np.ndarray:
    return vectors - (vectors * normals).sum(1, keepdims=True) * normals


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
