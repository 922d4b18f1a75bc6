"""Similarity transforms that bring five facial landmarks onto one template, and the warp that cuts the crop.

The transform is the least-squares similarity of Umeyama (1991), "Least-squares estimation of transformation
parameters between two point patterns", IEEE TPAMI 13(4). In the plane it has a closed form: with points as complex
numbers the best rotation-and-scale is one complex factor, so that a reflection can't come out and no SVD is needed.

Coordinates are (x, y), x to the right and y down, in pixels; the centre of the first pixel is (0, 0), as in OpenCV.
The five landmarks are, in this order: left eye, right eye, nose tip, left mouth corner, right mouth corner, where
left is left in the image.
"""

from __future__ import annotations

import cv2
import numpy as np

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")

# What left and right become in a mirror: the landmark at position i of a mirrored face is MIRRORED[i] of the face.
MIRRORED = (1, 0, 2, 4, 3)

# The mean face in units of the distance between the eyes, origin midway between them. It is the five-point template of
# ArcFace (Deng et al., CVPR 2019; 112x112: eyes (38.29, 51.70) and (73.53, 51.50), nose (56.03, 71.74), mouth
# (41.55, 92.37) and (70.73, 92.20)), averaged with its own mirror image, so that a mirrored face gives a mirrored crop.
MEAN_FACE = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.5714), (-0.4140, 1.1559), (0.4140, 1.1559)])

# ArcFace's framing cuts raised brows and the lower lip of a dropped jaw, which recognition of persons doesn't need and
# recognition of expressions does. In a frame of 100 units, eyes 40 apart at height 30 leave room for both: brows lie
# about 0.4 to 0.6 eye distances above the eyes and the lower lip 1.4 to 1.7 below. The tip of the chin (1.9 to 2.3) is
# left out: a wider frame spends the network's few pixels on hair and background, and validated worse.
FRAME = 100.0
EYE_DISTANCE = 40.0
EYE_LINE = 30.0

TEMPLATE = MEAN_FACE * EYE_DISTANCE + (FRAME / 2, EYE_LINE)
TEMPLATE.setflags(write=False)

# The warp samples a grid this many times finer than the crop and averages it down: the antialiasing works whatever
# the rotation.
OVERSAMPLE = 2

# Pixels around the sampled region that bicubic interpolation and the averaging may read.
_REACH = 4


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the 2x3 matrix of the similarity that brings `source` closest to `target` (Umeyama 1991, eq. 40-42).

    Both are [n, 2] with n >= 2. The result minimises the sum of squared distances over rotation, uniform scale and
    translation; it never mirrors. Raises ValueError on other shapes, on values that are not finite and when all
    source points coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(f"a similarity needs two [n, 2] arrays with n >= 2, not {source.shape} and {target.shape}")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("a similarity needs finite points")
    source_mean, target_mean = source.mean(0), target.mean(0)
    from_centre, to_centre = source - source_mean, target - target_mean
    variance = np.sum(from_centre**2)
    # Rounding of the mean leaves about one unit in the last place of the coordinates in every difference.
    if variance <= len(source) * (4 * np.finfo(np.float64).eps * np.abs(source).max(initial=0.0)) ** 2:
        raise ValueError("a similarity needs source points that don't all coincide")
    cosine = np.sum(from_centre * to_centre) / variance
    sine = np.sum(from_centre[:, 0] * to_centre[:, 1] - from_centre[:, 1] * to_centre[:, 0]) / variance
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return `points` [..., 2] carried through the 2x3 `matrix`."""
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of an affine 2x3 matrix; numpy.linalg.LinAlgError if it has none."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the 2x3 matrix that applies `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def scaling(factor_x: float, factor_y: float) -> np.ndarray:
    """Return the 2x3 matrix of a resize: it maps pixel areas onto pixel areas, so centres shift by half a pixel."""
    return np.array([[factor_x, 0.0, factor_x / 2 - 0.5], [0.0, factor_y, factor_y / 2 - 0.5]])


def mirror_points(points: np.ndarray, width: int) -> np.ndarray:
    """Return landmarks [..., 5, 2] as they lie, and are named, in the left-right mirrored image of that width."""
    mirrored = np.array(points, np.float64)[..., MIRRORED, :]
    mirrored[..., 0] = width - 1 - mirrored[..., 0]
    return mirrored


def template_points(size: int, margin: int) -> np.ndarray:
    """Return the template's landmarks [5, 2] in pixels of a crop whose central `size` x `size` region is the frame."""
    return TEMPLATE * (size / FRAME) - 0.5 + margin


def face_transform(landmarks: np.ndarray, size: int, margin: int) -> np.ndarray:
    """Return the 2x3 similarity from image pixels to crop pixels that brings `landmarks` [5, 2] onto the template."""
    return similarity_transform(landmarks, template_points(size, margin))


def box_transform(box: tuple[float, float, float, float], size: int, margin: int) -> np.ndarray:
    """Return the 2x3 similarity that fits `box` (x, y, width, height in pixels), undistorted, amid the frame."""
    x, y, width, height = box
    scale = size / max(width, height)
    centre = np.array([x + width / 2 - 0.5, y + height / 2 - 0.5])
    middle = size / 2 - 0.5 + margin
    return np.column_stack([np.eye(2) * scale, middle - scale * centre])


def align(image: np.ndarray, landmarks: np.ndarray, size: int = 100, margin: int = 0) -> np.ndarray:
    """Return the aligned face: uint8 [size + 2 margin, size + 2 margin, 3], antialiased.

    `image` is uint8 [h, w, 3], `landmarks` [5, 2] in its pixels. The central size x size region is the frame of
    TEMPLATE; the margin shows what lies around it (for random crops in training). Beyond the picture its edge is
    repeated.
    """
    side = size + 2 * margin
    return warp(image, face_transform(landmarks, size, margin), (side, side))


def warp(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return `image` seen through the 2x3 similarity `matrix` (image pixels to output pixels), antialiased.

    `shape` is (height, width) of the output. Where the output shrinks the picture, the picture is first averaged down
    to the sampling grid's resolution, sampled bicubically on a finer grid and averaged down to the output. An output
    that doesn't shrink is sampled bicubically, and a pure shift by whole pixels copies pixels unchanged.
    """
    image, matrix = _region(image, matrix, shape)
    height, width = shape
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale >= 1.0:
        return _sample(image, matrix, width, height)
    fine = compose(scaling(OVERSAMPLE, OVERSAMPLE), matrix)
    if scale * OVERSAMPLE < 1.0:
        rows, columns = (max(1, round(extent * scale * OVERSAMPLE)) for extent in image.shape[:2])
        fine = compose(fine, invert(scaling(columns / image.shape[1], rows / image.shape[0])))
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    sampled = _sample(image, fine, width * OVERSAMPLE, height * OVERSAMPLE)
    return cv2.resize(sampled, (width, height), interpolation=cv2.INTER_AREA)


def _sample(image: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _region(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Cut the part of the image that the output can see, so that a face costs the same in a picture of any size."""
    height, width = shape
    corners = np.array([(-0.5, -0.5), (width - 0.5, -0.5), (-0.5, height - 0.5), (width - 0.5, height - 0.5)])
    seen = transform_points(invert(matrix), corners)
    reach = _REACH * max(1.0, 1.0 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    limit = np.array([image.shape[1], image.shape[0]])
    # At least one pixel stays, the nearest, where the output lies wholly outside of the picture.
    first = np.clip(np.floor(seen.min(0) - reach), 0, limit - 1).astype(int)
    last = np.clip(np.ceil(seen.max(0) + reach), first, limit - 1).astype(int)
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ first
    return np.ascontiguousarray(image[first[1] : last[1] + 1, first[0] : last[0] + 1]), shifted
