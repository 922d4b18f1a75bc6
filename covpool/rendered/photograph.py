"""Makes one picture from random numbers: places the camera and lamps, adds a background, and simulates the camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from covpool.rendered.assets import FaceAssets
from covpool.rendered.expressions import CLASSES, Expression, sample_expression
from covpool.rendered.head import Head
from covpool.rendered.people import sample_person
from covpool.rendered.scene import Light, Studio, View

TURN_SPREAD = (8.0, 4.0, 5.0)  # degrees, standard deviations of yaw, pitch and roll
TURN_LIMIT = (20.0, 10.0, 12.0)
SCALE_RANGE = (0.92, 1.10)
SHIFT_LIMIT = 0.04  # of the picture's size

LAMP_COLOURS = np.array([(1.0, 0.78, 0.58), (1.0, 0.92, 0.84), (0.92, 0.96, 1.0)])  # incandescent, daylight, overcast
DENOISE = 6.0  # strength of the non-local means that takes away what is left of the path tracer's noise
DENOISE_WINDOWS = (3, 9)  # patch and search, pixels
SPECK_CONTRAST = 20  # grey levels that a stray sample differs by
SENSOR_NOISE = (0.003, 0.016)  # standard deviation, of full scale
BACKGROUND_LIGHT = 1.6  # the room is lit by what lights the face, and by its lamps
BLUR = (0.0, 0.75)  # pixels at REFERENCE_SIZE
REFERENCE_SIZE = 176


@dataclass(frozen=True)
class Photograph:
    """A finished picture.

    Attributes:
        image: uint8 [size, size, 3], sRGB.
        landmarks: float64 [5, 2] pixels (x right, y down): the eye on the image's left, the eye on its right, nose tip,
            mouth corner on the left, on the right.
    """

    image: np.ndarray
    landmarks: np.ndarray


class Sitter:
    """One identity in the studio. Its pictures depend only on the arguments of `photograph`."""

    def __init__(self, assets: FaceAssets, seed: int, identity: int) -> None:
        self.seed, self.identity = seed, identity
        self.person = sample_person(np.random.default_rng([seed, identity]), assets.target_names.tolist())
        self.studio = Studio(Head(assets, self.person))

    def photograph(
        self,
        expression: str | Expression,
        picture: int,
        size: int,
        view: View | None = None,
    ) -> Photograph:
        """Take one picture.

        Args:
            expression: One of `CLASSES`, with a recipe and strength that are drawn, or a given expression.
            picture: Number of the picture among those of this identity and class.
            size: Width and height in pixels.
            view: Position of the camera. If it is None, it is drawn.
        """
        number = CLASSES.index(expression) if isinstance(expression, str) else len(CLASSES)
        # Each kind of random choice has a separate stream, so that a given view does not change the light or the face.
        streams = np.random.SeedSequence([self.seed, self.identity, number, picture, 1]).spawn(5)
        face, camera, lamps, backdrop, sensor = (np.random.default_rng(stream) for stream in streams)
        shown = sample_expression(expression, face) if isinstance(expression, str) else expression
        view = view or sample_view(camera)
        light = sample_light(lamps)
        posed = self.studio.head.pose(shown)
        render, landmarks = self.studio.shoot(posed, view, light, size, seed=int(sensor.integers(2**31)))
        scene = over_background(render, background(size, light, backdrop))
        return Photograph(develop(scene, sensor), landmarks)


def sample_view(rng: np.random.Generator) -> View:
    """Draw a view: clipped normal angles, a uniform scale, and a small shift from the centre."""
    turn = np.clip(rng.standard_normal(3) * TURN_SPREAD, np.negative(TURN_LIMIT), TURN_LIMIT)
    yaw, pitch, roll = turn.tolist()
    shift = rng.uniform(-SHIFT_LIMIT, SHIFT_LIMIT, 2).tolist()
    return View(yaw, pitch, roll, rng.uniform(*SCALE_RANGE), tuple(shift))


def sample_light(rng: np.random.Generator) -> Light:
    """Draw a light: one lamp in front of the face, sometimes a second one at the side, in a dim or bright room."""
    ambient = rng.uniform(0.25, 0.6)
    lamps = [_lamp(rng, (-75, 75), (-5, 65), rng.uniform(0.7, 1.25))]
    if rng.random() < 0.4:
        side = rng.choice([-1, 1])
        lamps.append(_lamp(rng, tuple(sorted((side * 60, side * 110))), (0, 40), rng.uniform(0.2, 0.7)))
    tint = _tint(rng)
    return Light(tuple((ambient * tint).tolist()), rng.uniform(0.25, 0.8), tuple(lamps))


def _lamp(rng: np.random.Generator, around: tuple[float, float], height: tuple[float, float], power: float):
    azimuth, elevation = np.radians([rng.uniform(*around), rng.uniform(*height)])
    size = rng.uniform(0.25, 0.6)
    direction = (np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation))
    # A lamp of this shape covers about pi size^2 steradians: `power` is the irradiance it gives, over pi.
    return tuple(map(float, direction)), size, tuple((power / size**2 * _tint(rng)).tolist())


def _tint(rng: np.random.Generator) -> np.ndarray:
    warm = rng.uniform(0, len(LAMP_COLOURS) - 1.001)
    first, share = int(warm), warm % 1
    return LAMP_COLOURS[first] * (1 - share) + LAMP_COLOURS[first + 1] * share


def background(size: int, light: Light, rng: np.random.Generator) -> np.ndarray:
    """Draw an out-of-focus room: a gradient with a few blurred shapes.

    Returns:
        Linear RGB, float32 [size, size, 3].
    """
    small = 48
    rows = np.linspace(0, 1, small)[:, None, None]
    top, bottom = (_muted(rng) for _ in range(2))
    canvas = np.ascontiguousarray(np.broadcast_to(top + (bottom - top) * rows, (small, small, 3)), np.float32)
    for _ in range(rng.integers(0, 7)):
        colour = _muted(rng).tolist()
        x, y = (int(v) for v in rng.integers(-8, small + 8, 2))
        w, h = (int(v) for v in rng.integers(4, 26, 2))
        if rng.random() < 0.75:
            cv2.rectangle(canvas, (x, y), (x + w, y + h), colour, -1)
        else:
            cv2.circle(canvas, (x, y), w // 2, colour, -1)
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 5.0))
    lit = BACKGROUND_LIGHT * np.array(light.ambient, np.float32) * canvas
    return cv2.resize(lit, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, None)


def _muted(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour of walls and furniture, linear RGB [3]. It has any brightness and little saturation."""
    return rng.uniform(0.03, 0.75) * (0.65 + 0.35 * 3 * rng.dirichlet([4, 4, 4]))


def over_background(render: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Lay a rendered face [h, w, 4] over a background [h, w, 3]."""
    return render[..., :3] + (1 - render[..., 3:].clip(0, 1)) * behind


def develop(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convert linear radiance [h, w, 3] to a uint8 sRGB picture: tone curve, denoising, blur, and sensor noise."""
    display = to_srgb(scene)
    clean = without_specks(np.round(255 * display).astype(np.uint8))
    smooth = cv2.fastNlMeansDenoisingColored(clean, None, DENOISE, DENOISE, *DENOISE_WINDOWS)
    blurred = smooth.astype(np.float32)
    radius = rng.uniform(*BLUR) * len(scene) / REFERENCE_SIZE
    if radius > 0.2:
        blurred = cv2.GaussianBlur(blurred, (0, 0), radius)
    noisy = blurred + 255 * rng.uniform(*SENSOR_NOISE) * rng.standard_normal(blurred.shape)
    return np.round(noisy).clip(0, 255).astype(np.uint8)


def without_specks(image: np.ndarray) -> np.ndarray:
    """Replace each pixel that has fewer than two similar neighbours by the median of its 3 x 3 block; uint8 [h, w, 3].

    Stray samples of a path tracer are isolated, while a pixel on a line or an edge has two similar neighbours.
    """
    grey = np.pad(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.int16), 1, mode="edge")
    height, width = image.shape[:2]
    fellows = np.zeros((height, width), np.int8)
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            other = grey[down : down + height, right : right + width]
            fellows += np.abs(other - grey[1:-1, 1:-1]) < SPECK_CONTRAST
    return np.where((fellows < 3)[..., None], cv2.medianBlur(image, 3), image)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Compress linear values above 0.8 and apply the sRGB curve (IEC 61966-2-1); returns values in [0, 1]."""
    shoulder = 0.8
    above = np.maximum(linear - shoulder, 0)
    rolled = np.where(linear > shoulder, shoulder + (1 - shoulder) * (1 - np.exp(-above / (1 - shoulder))), linear)
    rolled = rolled.clip(0, 1)
    return np.where(rolled <= 0.0031308, 12.92 * rolled, 1.055 * rolled ** (1 / 2.4) - 0.055)
