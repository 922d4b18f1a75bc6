"""The colour of every vertex: skin, lips, scalp, stubble, mouth, teeth, clothes. Linear RGB reflectance."""

from __future__ import annotations

import numpy as np

from covpool.rendered.assets import MASKS, PARTS, FaceAssets
from covpool.rendered.hair import beard_region, brow_region, scalp_region
from covpool.rendered.head import Head, PosedHead, smoothstep

TEETH = (0.88, 0.83, 0.72)
TONGUE = (0.42, 0.13, 0.12)
MOUTH = (0.16, 0.035, 0.035)
LIP_TINT = (1.00, 0.52, 0.52)  # what lips do to the skin's colour
LIPSTICK = (0.42, 0.035, 0.06)
BLUSH = (1.06, 0.78, 0.76)
LASH_SHADE = 0.5  # lashes are darker than the hair
WAVES = 48  # plane waves in a texture
FOLD_SHADE = 0.42
NECKLINE_SOFTNESS = 0.08  # dm
BROW_TINT = 0.4  # what shows of the fine hair between the drawn ones


def neutral_colours(head: Head) -> np.ndarray:
    """Return the colours of a person's surface at rest, float32 [m, 3]."""
    assets, person, place = head.assets, head.person, head.template
    rng = np.random.default_rng(person.texture_seed)
    colour = np.tile(np.array(person.skin), (len(place), 1))
    colour *= (1 + 0.05 * _texture(place, 6.0, rng) + 0.035 * _texture(place, 40.0, rng))[:, None]
    flush = person.redness * (_spot(place, (0.42, 6.95), 0.20) + 0.8 * _spot(place, (0.0, 6.90), 0.12))
    flush += 0.5 * person.redness * assets.masks[:, MASKS.index("ears")]
    colour = _blend(colour, colour * BLUSH, np.clip(flush, 0, 1))
    colour *= 1 - 0.25 * _spot(place, (0.31, 7.27), 0.17)[:, None] * (0.5 + 0.5 * person.age)
    if person.freckles:
        spots = smoothstep(1.2, 1.9, _texture(place, 55.0, rng)) * _spot(place, (0.25, 7.0), 0.40)
        colour *= 1 - 0.45 * person.freckles * spots[:, None]
    colour = _blend(colour, np.array(person.hair_colour), 0.42 * person.beard * beard_region(head))
    colour = _blend(colour, np.array(person.hair_colour), BROW_TINT * brow_region(head))
    colour = _paint_lips(colour, head)
    scalp = scalp_region(head) * (0.35 if person.hair_style == "bald" else 0.9)
    colour = _blend(colour, 0.8 * np.array(person.hair_colour), scalp)
    colour = _paint_shirt(colour, head, rng)
    return _paint_parts(colour, assets, np.array(person.hair_colour)).astype(np.float32)


def posed_colours(neutral: np.ndarray, posed: PosedHead) -> np.ndarray:
    """Return the neutral colours [m, 3], darkened in the folds of an expression."""
    return np.clip(neutral * (1 - FOLD_SHADE * np.clip(posed.folds, 0, 1))[:, None], 0.001, 1).astype(np.float32)


def _paint_lips(colour: np.ndarray, head: Head) -> np.ndarray:
    lips = head.assets.masks[:, MASKS.index("lips")]
    bare = colour * LIP_TINT
    worn = _blend(bare, np.array(LIPSTICK), np.full(len(colour), head.person.lipstick))
    colour = _blend(colour, worn, 0.85 * lips)
    return _blend(colour, np.array(MOUTH), head.assets.masks[:, MASKS.index("inside-mouth")] * (1 - lips))


def _paint_shirt(colour: np.ndarray, head: Head, rng: np.random.Generator) -> np.ndarray:
    """Paint the cloth below a neckline that is lower in front."""
    x, y, z = head.template.T
    neckline = 5.78 + head.person.shirt_neck - 0.35 * smoothstep(0.2, 1.0, z) * smoothstep(0.7, 0.0, np.abs(x))
    cloth = np.array(head.person.shirt) * (1 + 0.12 * _texture(head.template, 25.0, rng))[:, None]
    return _blend(colour, cloth, smoothstep(NECKLINE_SOFTNESS / 2, -NECKLINE_SOFTNESS / 2, y - neckline))


def _paint_parts(colour: np.ndarray, assets: FaceAssets, hair: np.ndarray) -> np.ndarray:
    for number, name in enumerate(PARTS):
        at = assets.part == number
        if name.endswith("teeth"):
            colour[at] = TEETH
        elif name.endswith("tongue"):
            colour[at] = TONGUE
        elif "lashes" in name:
            colour[at] = LASH_SHADE * hair
    return colour


def _texture(place: np.ndarray, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth random field of unit variance at template places [m, 3].

    The field is a sum of plane waves (random Fourier features).
    `frequency` is in radians per dm.
    """
    waves = rng.standard_normal((3, WAVES)) * frequency
    return np.sqrt(2 / WAVES) * np.cos(place @ waves + rng.uniform(0, 2 * np.pi, WAVES)).sum(1)


def _spot(place: np.ndarray, centre: tuple[float, float], radius: float) -> np.ndarray:
    """Return a soft round spot on both halves of the face, [m] in [0, 1]."""
    square = (np.abs(place[:, 0]) - centre[0]) ** 2 + (place[:, 1] - centre[1]) ** 2
    return np.exp(-square / radius**2) * (place[:, 2] > 0.8)


def _blend(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    return below + share[:, None] * (above - below)
