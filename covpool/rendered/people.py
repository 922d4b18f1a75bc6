"""Draws the person in a picture: the shape and the look of a head, from a random generator.

Shape is a mix of MakeHuman's targets: sex, age, origin and build (its macro targets are meant to be mixed with weights
that sum to one) plus many small opposite pairs such as a wider or narrower nose. Looks are drawn too: skin, hair,
brows, eyes, beard, clothes, spectacles. Looks depend loosely on origin and age, as in a crowd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covpool.rendered.assets import MACRO_AGES, MACRO_BUILDS, MACRO_GENDERS, MACRO_ORIGINS

OPPOSITES = (
    ("-incr", "-decr"),
    ("-up", "-down"),
    ("-out", "-in"),
    ("-forward", "-backward"),
    ("-uncompress", "-compress"),
    ("-convex", "-concave"),
)
DETAIL_SPREAD = {  # standard deviation of a pair's weight, by folder; 1 is the artists' extreme
    "head": 0.22,
    "forehead": 0.25,
    "eyebrows": 0.15,
    "eyes": 0.16,
    "nose": 0.22,
    "cheek": 0.22,
    "mouth": 0.18,
    "chin": 0.22,
    "ears": 0.25,
    "neck": 0.15,
}
DETAIL_LIMIT = 0.5
FIXED_DETAILS = ("head/head-trans", "head/head-angle", "mouth/mouth-angles", "mouth/mouth-trans", "neck/neck-trans")
HEAD_FORMS = ("oval", "round", "rectangular", "square", "triangular", "invertedtriangular", "diamond")
HEAD_FORM_LIMIT = 0.5
ASYMMETRIES = 5  # lop-sided targets a person has
ASYMMETRY_LIMIT = 0.35

# Linear RGB reflectances. Skin runs from light to dark along the six Fitzpatrick types (values read off the sRGB
# colour chips that are common for them and linearised); a person lies between two neighbours.
SKIN_TONES = np.array(
    [
        (0.72, 0.47, 0.36),
        (0.62, 0.37, 0.26),
        (0.52, 0.29, 0.18),
        (0.34, 0.17, 0.09),
        (0.17, 0.075, 0.038),
        (0.075, 0.034, 0.020),
    ]
)
TONE_RANGE = {"caucasian": (0.0, 2.6), "asian": (0.5, 3.2), "african": (2.8, 5.0)}
HAIR_COLOURS = {
    "black": (0.010, 0.008, 0.007),
    "dark brown": (0.030, 0.017, 0.010),
    "brown": (0.080, 0.042, 0.021),
    "auburn": (0.130, 0.040, 0.015),
    "blond": (0.330, 0.210, 0.095),
    "grey": (0.270, 0.265, 0.260),
}
IRIS_COLOURS = {
    "brown": (0.055, 0.022, 0.008),
    "hazel": (0.120, 0.075, 0.025),
    "green": (0.095, 0.130, 0.060),
    "blue": (0.110, 0.200, 0.330),
    "grey": (0.170, 0.200, 0.220),
}
HAIR_STYLES = {  # style: probability for women, for men
    "bald": (0.01, 0.14),
    "cropped": (0.04, 0.24),
    "short": (0.14, 0.34),
    "swept back": (0.12, 0.14),
    "fringe": (0.15, 0.06),
    "curly": (0.14, 0.08),
    "long": (0.40, 0.0),
}


@dataclass(frozen=True)
class Person:
    """One identity: random target weights and a random look. Colours are linear RGB."""

    shape: dict[str, float]
    male: float
    age: float
    skin: tuple[float, float, float]
    redness: float
    freckles: float
    lipstick: float
    hair_style: str
    hair_colour: tuple[float, float, float]
    hairline: float
    hair_length: float
    brow_height: float
    brow_thickness: float
    brow_density: float
    beard: float
    beard_length: float
    iris: tuple[float, float, float]
    glasses: str
    shirt: tuple[float, float, float]
    shirt_neck: float
    texture_seed: int


def sample_person(rng: np.random.Generator, target_names: list[str]) -> Person:
    """Draw one identity.

    Args:
        rng: Generator that is used for this identity only.
        target_names: The available shape targets (`FaceAssets.target_names`).
    """
    male = rng.uniform(0.8, 1.0) if rng.random() < 0.5 else rng.uniform(0.0, 0.2)
    age = float(np.clip(rng.beta(1.1, 1.7), 0, 1))
    origins = rng.dirichlet([0.35] * len(MACRO_ORIGINS))
    shape = _macro_weights(male, age, origins, rng) | _detail_weights(rng, target_names)
    is_man = male > 0.5
    dark_haired = 1 - origins[MACRO_ORIGINS.index("caucasian")]
    styles = list(HAIR_STYLES)
    odds = np.array([HAIR_STYLES[s][int(is_man)] for s in styles])
    bearded = is_man and rng.random() < 0.45
    return Person(
        shape=shape,
        male=float(male),
        age=age,
        skin=_skin_tone(origins, rng),
        redness=rng.uniform(0.2, 1.0),
        freckles=rng.uniform(0.3, 1.0) if rng.random() < 0.2 else 0.0,
        lipstick=rng.uniform(0.3, 0.9) if not is_man and rng.random() < 0.5 else 0.0,
        hair_style=str(rng.choice(styles, p=odds / odds.sum())),
        hair_colour=_hair_colour(age, dark_haired, rng),
        hairline=float(np.clip(rng.normal(0.0, 0.05) + (0.08 * age if is_man else 0.0), -0.08, 0.2)),
        hair_length=rng.uniform(0.75, 1.3),
        brow_height=rng.normal(0.0, 0.012),
        brow_thickness=rng.uniform(0.85, 1.35) * (1.15 if is_man else 0.85),
        brow_density=rng.uniform(0.7, 1.2),
        beard=rng.uniform(0.25, 1.0) if bearded else 0.0,
        beard_length=rng.uniform(0.02, 0.12) if bearded and rng.random() < 0.6 else 0.0,
        iris=_iris_colour(dark_haired, rng),
        glasses=str(rng.choice(["none", "round", "square"], p=[0.86, 0.07, 0.07])),
        shirt=tuple(np.clip(rng.dirichlet([1.5] * 3) * rng.uniform(0.05, 1.2), 0.01, 0.8).tolist()),
        shirt_neck=rng.uniform(-0.12, 0.22),
        texture_seed=int(rng.integers(2**31)),
    )


def _macro_weights(male: float, age: float, origins: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Return sex, age, origin and build as target weights; each group of factors sums to one."""
    heavy = rng.normal(0.0, 0.5)
    build = np.array([max(0.0, -heavy), 0.0, max(0.0, heavy)]).clip(0, 1)
    build[1] = 1 - build.sum()
    weights = {}
    for gender, by_gender in zip(MACRO_GENDERS, (1 - male, male), strict=True):
        for stage, by_age in zip(MACRO_AGES, (1 - age, age), strict=True):
            for kind, share in [*zip(MACRO_ORIGINS, origins, strict=True)]:
                weights[f"macro/{kind}-{gender}-{stage}"] = float(by_gender * by_age * share)
            for kind, share in [*zip(MACRO_BUILDS, build, strict=True)]:
                weights[f"macro/universal-{gender}-{stage}-{kind}"] = float(by_gender * by_age * share)
    return weights


def _detail_weights(rng: np.random.Generator, target_names: list[str]) -> dict[str, float]:
    """Draw small opposite pairs, one head form and some asymmetries; both sides of the face share a pair's weight."""
    weights = {}
    for positive, negative in _pairs(target_names):
        folder = positive[0].split("/")[0]
        if positive[0].startswith(FIXED_DETAILS):
            continue
        level = float(np.clip(DETAIL_SPREAD[folder] * rng.standard_normal(), -DETAIL_LIMIT, DETAIL_LIMIT))
        for name in positive if level > 0 else negative:
            weights[name] = abs(level)
    weights[f"head/head-{rng.choice(HEAD_FORMS)}"] = rng.uniform(0, HEAD_FORM_LIMIT)
    lopsided = sorted(name for name in target_names if name.startswith("asym/asym-"))
    for name in rng.choice(lopsided, ASYMMETRIES, replace=False):
        weights[str(name)] = rng.uniform(0, ASYMMETRY_LIMIT)
    return weights


def _pairs(target_names: list[str]) -> list[tuple[list[str], list[str]]]:
    """Return opposite targets in a fixed order; the left and right versions of one shape stay together."""
    known = set(target_names)
    pairs = []
    for name in sorted(known):
        folder, _, stem = name.partition("/")
        if folder not in DETAIL_SPREAD or stem.startswith("r-"):
            continue
        for plus, minus in OPPOSITES:
            opposite = name.removesuffix(plus) + minus
            if name.endswith(plus) and opposite in known:
                pairs.append((_both_sides(name, known), _both_sides(opposite, known)))
                break
    return pairs


def _both_sides(name: str, known: set[str]) -> list[str]:
    other = name.replace("/l-", "/r-")
    return [name, other] if other != name and other in known else [name]


def _skin_tone(origins: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    ranges = np.array([TONE_RANGE[o] for o in MACRO_ORIGINS])
    low, high = origins @ ranges
    place = float(np.clip(rng.uniform(low, high) + rng.normal(0, 0.2), 0, len(SKIN_TONES) - 1.001))
    first, share = int(place), place % 1
    tone = SKIN_TONES[first] ** (1 - share) * SKIN_TONES[first + 1] ** share
    return tuple((tone * (1 + 0.04 * rng.standard_normal(3))).tolist())


def _hair_colour(age: float, dark_haired: float, rng: np.random.Generator) -> tuple[float, float, float]:
    names = list(HAIR_COLOURS)
    light, dark = np.array([0.12, 0.25, 0.28, 0.1, 0.25, 0]), np.array([0.7, 0.22, 0.06, 0.01, 0.01, 0])
    odds = dark_haired * dark + (1 - dark_haired) * light
    colour = np.array(HAIR_COLOURS[str(rng.choice(names, p=odds / odds.sum()))])
    grey = float(np.clip((age - 0.45) * 2, 0, 1) * rng.uniform(0, 1.2))
    mixed = colour + min(grey, 1.0) * (np.array(HAIR_COLOURS["grey"]) - colour)
    return tuple((mixed * rng.uniform(0.8, 1.25)).tolist())


def _iris_colour(dark_haired: float, rng: np.random.Generator) -> tuple[float, float, float]:
    names = list(IRIS_COLOURS)
    light, dark = np.array([0.3, 0.2, 0.15, 0.25, 0.1]), np.array([0.9, 0.08, 0.01, 0.0, 0.01])
    odds = dark_haired * dark + (1 - dark_haired) * light
    colour = np.array(IRIS_COLOURS[str(rng.choice(names, p=odds / odds.sum()))])
    return tuple((colour * rng.uniform(0.8, 1.2)).tolist())
