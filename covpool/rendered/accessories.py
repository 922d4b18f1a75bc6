"""Things that people wear: spectacles, as thin tubes bent around the eyes and back to the ears."""

from __future__ import annotations

import numpy as np

from covpool.rendered.head import Head, Patch

FRAME_COLOURS = ((0.012, 0.010, 0.010), (0.10, 0.045, 0.018), (0.35, 0.33, 0.30), (0.20, 0.02, 0.03))
RIM_HALF_WIDTH, RIM_HALF_HEIGHT = 0.25, 0.20  # dm
RIM_POWER = {"round": 2.0, "square": 4.5}  # exponent of the superellipse that a rim follows
RIM_POINTS = 28
TUBE_SIDES = 5
TUBE_RADIUS = (0.012, 0.024)  # dm
BEFORE_THE_EYE = 0.13  # dm from the front of the eyeball to the rim's plane
TEMPLE_LENGTH = 1.05  # dm
TEMPLE_SPREAD = 0.15  # how far its end lies outside the hinge


def spectacles(head: Head) -> Patch | None:
    """Return the spectacles of a person, or None if the person wears none."""
    if head.person.glasses == "none":
        return None
    rng = np.random.default_rng([head.person.texture_seed, 5])
    radius = rng.uniform(*TUBE_RADIUS)
    power = RIM_POWER[head.person.glasses]
    size = rng.uniform(0.92, 1.12)
    eyes = [head.coarse[vertices] for vertices in head.assets.eye_vertices]
    plane = max(eye[:, 2].max() for eye in eyes) + BEFORE_THE_EYE
    turn = np.linspace(0, 2 * np.pi, RIM_POINTS + 1)
    bend = np.column_stack([_power(np.cos(turn), 2 / power), _power(np.sin(turn), 2 / power)])
    half = size * np.array([RIM_HALF_WIDTH, RIM_HALF_HEIGHT])
    paths, inner = [], []
    for eye, outward in zip(eyes, (-1, 1), strict=True):
        middle = np.array([eye[:, 0].mean() + 0.02 * outward, eye[:, 1].mean() - 0.02])
        rim = np.column_stack([middle + half * bend, np.full(len(turn), plane)])
        hinge = np.array([middle[0] + outward * half[0], middle[1] + 0.5 * half[1], plane])
        ear = hinge + [outward * TEMPLE_SPREAD, 0.02, -TEMPLE_LENGTH]
        paths += [rim, np.linspace(hinge, ear, 4)]
        inner.append(np.array([middle[0] - outward * half[0], middle[1] + 0.35 * half[1], plane]))
    arch = (inner[0] + inner[1]) / 2 + [0.0, 0.03, 0.03]
    paths.append(np.array([inner[0], arch, inner[1]]))
    colour = np.array(FRAME_COLOURS[rng.integers(len(FRAME_COLOURS))])
    return join([tube(path, radius, colour) for path in paths])


def tube(path: np.ndarray, radius: float, colour: np.ndarray) -> Patch:
    """Make a tube of `TUBE_SIDES` sides around a polyline.

    Args:
        path: [k, 3], in dm.
        radius: In dm.
        colour: Linear RGB [3].
    """
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    # Any two directions across the path are right. No rim runs along the forward axis, no temple along the upward axis.
    reference = np.where(np.abs(along[:, 2:]) > 0.7, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    first = np.cross(along, reference)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    turn = np.arange(TUBE_SIDES) * 2 * np.pi / TUBE_SIDES
    normals = np.cos(turn)[None, :, None] * first[:, None] + np.sin(turn)[None, :, None] * second[:, None]
    vertices = path[:, None] + radius * normals
    ring, side = np.meshgrid(np.arange(len(path) - 1), np.arange(TUBE_SIDES), indexing="ij")
    here, there = ring * TUBE_SIDES + side, ring * TUBE_SIDES + (side + 1) % TUBE_SIDES
    quads = np.stack([here, there, there + TUBE_SIDES, here + TUBE_SIDES], axis=-1).reshape(-1, 4)
    count = len(path) * TUBE_SIDES
    return Patch(
        vertices=vertices.reshape(-1, 3).astype(np.float32),
        normals=normals.reshape(-1, 3).astype(np.float32),
        colours=np.tile(colour, (count, 1)).astype(np.float32),
        quads=quads.astype(np.int32),
    )


def join(patches: list[Patch]) -> Patch:
    """Join several surfaces into one."""
    starts = np.cumsum([0, *(len(patch.vertices) for patch in patches[:-1])])
    quads = [patch.quads + start for patch, start in zip(patches, starts, strict=True)]
    return Patch(
        vertices=np.concatenate([patch.vertices for patch in patches]),
        normals=np.concatenate([patch.normals for patch in patches]),
        colours=np.concatenate([patch.colours for patch in patches]),
        quads=np.concatenate(quads).astype(np.int32),
    )


def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    return np.sign(values) * np.abs(values) ** exponent
