"""Renders a posed head: camera, light, materials, and Mitsuba 3 as the path tracer.

The scalar variant is used: it needs no compiler and no GPU, and one thread gives the same bytes every time. The camera
and the light turn around the head, whose frame is the world's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from covpool.rendered.accessories import spectacles
from covpool.rendered.assets import require
from covpool.rendered.hair import Strands, beard_strands, brow_strands, ribbons, scalp_strands
from covpool.rendered.head import Eyeball, Head, Patch, PosedHead
from covpool.rendered.people import Person
from covpool.rendered.skin import neutral_colours, posed_colours

MITSUBA_VERSION = "3.9.1"
DISTANCE = 11.0  # dm from the face: that of a portrait, so that noses keep their size
FRAME = 3.05  # dm that the picture is wide at scale one, a head with some air around it
SAMPLES = 6  # light paths a pixel; the noise that is left is below a small sensor's
FACE_CENTRE = (0.25, 0.55)  # where the frame's centre lies: that far from eyes to mouth, that far (dm) behind the eyes

SKIN_ROUGHNESS = 0.42
HAIR_ROUGHNESS = 0.5
FRAME_ROUGHNESS = 0.25
SPECULAR = 0.3  # of Disney's principled model; 0.5 would be glass
IRIS_ANGLE = 0.50  # radians from the pupil's axis to the iris's rim: 11.7 mm across on an eye 24 mm across
PUPIL_ANGLE = 0.17
WHITE_OF_THE_EYE = (0.74, 0.69, 0.66)
LIGHT_SIZE = (16, 32)  # rows and columns of the map of light


@dataclass(frozen=True)
class View:
    """The place of the camera. In degrees, yaw turns the head to its left, pitch up, and roll counter-clockwise.

    `scale` magnifies; `shift` moves the face right and down by a share of the picture's size.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def rotation(self) -> np.ndarray:
        """Return the matrix [3, 3] from the head's frame to the camera's (x right, y up, z to the viewer)."""
        yaw, pitch, roll = np.radians([self.yaw, -self.pitch, self.roll])
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        nod = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        return tilt @ nod @ turn


@dataclass(frozen=True)
class Light:
    """A soft surrounding light with one or two large lamps in it, in the camera's frame.

    `ambient` and each lamp's `colour` are linear RGB; a lamp is (direction [3], angular size in radians, colour [3]).
    """

    ambient: tuple[float, float, float]
    ground: float
    lamps: tuple[tuple[tuple[float, float, float], float, tuple[float, float, float]], ...]

    def panorama(self) -> np.ndarray:
        """Return the radiance from every direction, float32 [rows, columns, 3]. The top row is straight up."""
        rows, columns = LIGHT_SIZE
        polar = (np.arange(rows) + 0.5) / rows * np.pi
        around = (np.arange(columns) + 0.5) / columns * 2 * np.pi
        # Mitsuba's envmap: azimuth u runs so that the direction is (sin u, ., -cos u).
        x = np.sin(polar)[:, None] * np.sin(around)
        y = np.cos(polar)[:, None] * np.ones(columns)
        z = -np.sin(polar)[:, None] * np.cos(around)
        fade = self.ground + (1 - self.ground) * (y + 1) / 2
        light = fade[..., None] * np.array(self.ambient)
        for direction, size, colour in self.lamps:
            direction = np.array(direction) / np.linalg.norm(direction)
            angle = np.arccos(np.clip(x * direction[0] + y * direction[1] + z * direction[2], -1, 1))
            light = light + np.exp(-((angle / size) ** 2))[..., None] * np.array(colour)
        return light.astype(np.float32)


@cache
def renderer():
    """Return Mitsuba, set to its scalar variant and one thread; several worker processes run in parallel."""
    require("mitsuba", MITSUBA_VERSION)
    import drjit
    import mitsuba

    mitsuba.set_variant("scalar_rgb")
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    drjit.set_thread_count(1)
    return mitsuba


def projected(points: np.ndarray, centre: np.ndarray, view: View, size: int) -> np.ndarray:
    """Project points [k, 3] in the head's frame to pixels [k, 2] (x right, y down, pixel centres at .5)."""
    seen = (points - centre) @ view.rotation().T
    focal = size * view.scale * DISTANCE / FRAME
    depth = DISTANCE - seen[:, 2]
    offset = size * (0.5 + np.array(view.shift))
    return np.column_stack([offset[0] + focal * seen[:, 0] / depth, offset[1] - focal * seen[:, 1] / depth])


class Studio:
    """One person in front of a camera. Parts that do not change between pictures are made only once."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.colours = neutral_colours(head)
        self.eye_texture = _eye_texture(head.person)
        strands, glasses = scalp_strands(head), spectacles(head)
        self.fixed = {}
        if strands is not None:
            self.fixed["hair"] = _surface(self._ribbons(strands), HAIR_ROUGHNESS)
        if glasses is not None:
            self.fixed["glasses"] = _surface(glasses, FRAME_ROUGHNESS)

    def shoot(self, posed: PosedHead, view: View, light: Light, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Render one picture.

        Returns:
            Linear RGB radiance and coverage, float32 [size, size, 4], the colour not multiplied by the coverage's
            complement (the background is black), and the landmarks in pixels, [5, 2].
        """
        mitsuba = renderer()
        centre = face_centre(self.head)
        skin = posed_colours(self.colours, posed)
        scene = {
            "type": "scene",
            "integrator": {"type": "direct", "hide_emitters": True},  # bounces cost more than they show at this size
            "sensor": _camera(centre, view, size),
            "light": _surrounding(light, view),
            "face": _surface(Patch(posed.vertices, posed.normals, skin, self.head.assets.quads), SKIN_ROUGHNESS),
            **{f"eye{i}": _eye(eye, self.eye_texture) for i, eye in enumerate(posed.eyes)},
            **self.fixed,
        }
        for name, strands in (("brows", brow_strands(self.head, posed)), ("beard", beard_strands(self.head, posed))):
            if strands is not None:
                scene[name] = _surface(self._ribbons(strands), HAIR_ROUGHNESS)
        picture = mitsuba.render(mitsuba.load_dict(scene), seed=seed)
        return np.array(picture, np.float32), projected(posed.landmarks, centre, view, size)

    def _ribbons(self, strands: Strands) -> Patch:
        return ribbons(strands, self.head.person.hair_colour, face_centre(self.head))


def face_centre(head: Head) -> np.ndarray:
    """Return the point [3] that the camera looks at."""
    eyes = head.coarse[head.assets.eye_vertices].mean((0, 1))
    mouth = head.coarse[head.assets.landmarks[1:]].mean(0)
    along, behind = FACE_CENTRE
    return np.array([eyes[0], eyes[1] + along * (mouth[1] - eyes[1]), eyes[2] - behind], np.float64)


def _camera(centre: np.ndarray, view: View, size: int) -> dict:
    mitsuba = renderer()
    to_head = view.rotation().T
    position = centre + to_head @ [0.0, 0.0, DISTANCE]
    up = to_head @ [0.0, 1.0, 0.0]
    return {
        "type": "perspective",
        "fov": float(np.degrees(2 * np.arctan(FRAME / (2 * view.scale * DISTANCE)))),
        "principal_point_offset_x": -float(view.shift[0]),
        "principal_point_offset_y": -float(view.shift[1]),
        "to_world": mitsuba.ScalarTransform4f().look_at(position.tolist(), centre.tolist(), up.tolist()),
        "film": {
            "type": "hdrfilm",
            "width": size,
            "height": size,
            "pixel_format": "rgba",
            "component_format": "float32",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "multijitter", "sample_count": SAMPLES},
    }


def _surrounding(light: Light, view: View) -> dict:
    mitsuba = renderer()
    turned = np.eye(4)
    turned[:3, :3] = view.rotation().T
    return {
        "type": "envmap",
        "bitmap": mitsuba.Bitmap(light.panorama()),
        "to_world": mitsuba.ScalarTransform4f(turned.tolist()),
    }


def _surface(patch: Patch, roughness: float):
    """Convert a coloured surface to a Mitsuba object."""
    mitsuba = renderer()
    triangles = np.concatenate([patch.quads[:, [0, 1, 2]], patch.quads[:, [0, 2, 3]]])
    count = len(patch.vertices)
    mesh = mitsuba.Mesh("", count, len(triangles), has_vertex_normals=True, props=mitsuba.Properties())
    mesh.add_attribute("vertex_color", 3, patch.colours.ravel())
    parameters = mitsuba.traverse(mesh)
    parameters["vertex_positions"] = patch.vertices.ravel()
    parameters["vertex_normals"] = patch.normals.ravel()
    parameters["faces"] = triangles.ravel().astype(np.uint32)
    parameters.update()
    mesh.set_bsdf(_coating(roughness))
    return mesh


@cache
def _coating(roughness: float):
    return renderer().load_dict(
        {
            "type": "twosided",
            "bsdf": {
                "type": "principled",
                "base_color": {"type": "mesh_attribute", "name": "vertex_color"},
                "roughness": roughness,
                "specular": SPECULAR,
            },
        }
    )


def _eye(eye: Eyeball, texture: np.ndarray) -> dict:
    """Convert an eyeball to a Mitsuba object. The pole of its texture is the pupil."""
    mitsuba = renderer()
    aim = mitsuba.ScalarTransform4f().look_at(eye.centre.tolist(), (eye.centre + eye.gaze).tolist(), [0, 1, 0])
    return {
        "type": "sphere",
        "to_world": aim.scale(eye.radius),
        "bsdf": {
            "type": "principled",
            "base_color": {"type": "bitmap", "bitmap": mitsuba.Bitmap(texture), "raw": True},
            "roughness": 0.12,
            "specular": 0.7,
        },
    }


def _eye_texture(person: Person) -> np.ndarray:
    """Return colours by polar angle (rows, from the pupil) and azimuth (columns), float32 [256, 64, 3]."""
    rng = np.random.default_rng([person.texture_seed, 4])
    angle = ((np.arange(256) + 0.5) / 256 * np.pi)[:, None, None]
    fibres = 1 + 0.25 * np.convolve(rng.standard_normal(66), [0.25, 0.5, 0.25], "valid")[None, :, None]
    depth = (angle - PUPIL_ANGLE) / (IRIS_ANGLE - PUPIL_ANGLE)
    iris = np.array(person.iris) * fibres * (1.25 - 0.75 * np.clip(depth, 0, 1) ** 4)
    white = np.array(WHITE_OF_THE_EYE) * np.ones((1, 64, 1))
    rim = np.clip((angle - IRIS_ANGLE) / 0.05 + 0.5, 0, 1)
    pupil = np.clip((PUPIL_ANGLE - angle) / 0.03 + 0.5, 0, 1)
    return ((iris + rim * (white - iris)) * (1 - pupil) + 0.004 * pupil).astype(np.float32)
