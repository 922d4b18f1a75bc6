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

# The landmark at position i of a mirrored face is the one at MIRRORED[i] of the face.
MIRRORED = (1, 0, 2, 4, 3)

# The mean face in units of the distance between the eyes, origin midway between them. It is the five-point template of
# ArcFace (Deng et al., CVPR 2019; 112x112: eyes (38.29, 51.70) and (73.53, 51.50), nose (56.03, 71.74), mouth
# (41.55, 92.37) and (70.73, 92.20)), averaged with its own mirror image, so that a mirrored face gives a mirrored crop.
MEAN_FACE = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.5714), (-0.4140, 1.1559), (0.4140, 1.1559)])

# ArcFace's frame cuts off raised brows and the lower lip of a dropped jaw. Expression recognition needs them, person
# recognition does not. In a frame of 100 units, eyes 40 apart at height 30 leave room for both: brows are about 0.4 to
# 0.6 eye distances above the eyes, the lower lip 1.4 to 1.7 below. The tip of the chin (1.9 to 2.3) is left out: a
# wider frame spends the network's few pixels on hair and background, and had a lower validation accuracy.
FRAME = 100.0
EYE_DISTANCE = 40.0
EYE_LINE = 30.0

TEMPLATE = MEAN_FACE * EYE_DISTANCE + (FRAME / 2, EYE_LINE)
TEMPLATE.setflags(write=False)

# The warp samples a grid this many times finer than the crop and averages it: antialiasing then works at any rotation.
OVERSAMPLE = 2

# Pixels around the sampled region that bicubic interpolation and the averaging may read.
_REACH = 4


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the similarity that brings one set of points closest to another (Umeyama 1991, eq. 40-42).

    It minimises sum_i |s R x_i + t - y_i|^2 over rotation R, scale s and translation t; it never mirrors. With points
    as complex numbers about their means, s R is the factor sum(conj(x) y) / sum(|x|^2).

    Args:
        source: the points x, [n, 2] with n >= 2.
        target: the points y, [n, 2].

    Returns:
        float64 [2, 3], [s R | t].

    Raises:
        ValueError: if the shapes are others, a value is not finite, or all source points coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(f"expected two arrays [n, 2] with n >= 2, got {source.shape} and {target.shape}")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("expected finite points, got nan or infinity")
    source_mean, target_mean = source.mean(0), target.mean(0)
    from_centre, to_centre = source - source_mean, target - target_mean
    variance = np.sum(from_centre**2)
    # The mean is rounded, so each difference can be wrong by about one unit in the last place of the coordinates.
    if variance <= len(source) * (4 * np.finfo(np.float64).eps * np.abs(source).max(initial=0.0)) ** 2:
        raise ValueError("expected at least two different source points; all of them coincide")
    cosine = np.sum(from_centre * to_centre) / variance
    sine = np.sum(from_centre[:, 0] * to_centre[:, 1] - from_centre[:, 1] * to_centre[:, 0]) / variance
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return `points` [..., 2] after the affine 2x3 `matrix`."""
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of an affine 2x3 matrix; raises numpy.linalg.LinAlgError if it has none."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the 2x3 matrix that applies `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def scaling(factor_x: float, factor_y: float) -> np.ndarray:
    """Return the 2x3 matrix of a resize: it maps pixel areas onto pixel areas, so centres shift by half a pixel."""
    return np.array([[factor_x, 0.0, factor_x / 2 - 0.5], [0.0, factor_y, factor_y / 2 - 0.5]])


def mirror_points(points: np.ndarray, width: int) -> np.ndarray:
    """Return landmarks [..., 5, 2] in the mirrored picture, where left and right change names; `width` in pixels."""
    mirrored = np.array(points, np.float64)[..., MIRRORED, :]
    mirrored[..., 0] = width - 1 - mirrored[..., 0]
    return mirrored


def template_points(size: int, margin: int) -> np.ndarray:
    """Return the template's landmarks [5, 2] in pixels of a crop with a frame of `size` and a `margin` on each side."""
    return TEMPLATE * (size / FRAME) - 0.5 + margin


def face_transform(landmarks: np.ndarray, size: int, margin: int) -> np.ndarray:
    """Return the 2x3 similarity from image pixels to crop pixels that brings `landmarks` [5, 2] onto the template."""
    return similarity_transform(landmarks, template_points(size, margin))


def box_transform(box: tuple[float, float, float, float], size: int, margin: int) -> np.ndarray:
    """Return the 2x3 similarity that centres `box` (x, y, width, height in pixels) in the frame, as large as fits."""
    x, y, width, height = box
    scale = size / max(width, height)
    centre = np.array([x + width / 2 - 0.5, y + height / 2 - 0.5])
    middle = size / 2 - 0.5 + margin
    return np.column_stack([np.eye(2) * scale, middle - scale * centre])


def align(image: np.ndarray, landmarks: np.ndarray, size: int = 100, margin: int = 0) -> np.ndarray:
    """Return the aligned face.

    Args:
        image: uint8 [h, w, 3].
        landmarks: [5, 2] in pixels of the image, in the order of LANDMARKS.
        size: side of the frame of TEMPLATE in pixels.
        margin: pixels around the frame, on each side; training takes random crops from it.

    Returns:
        uint8 [size + 2 margin, size + 2 margin, 3], antialiased. Beyond the picture its edge is repeated.
    """
    side = size + 2 * margin
    return warp(image, face_transform(landmarks, size, margin), (side, side))


def warp(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a picture after a similarity, antialiased.

    If the picture gets smaller, it is first averaged down to the resolution of the sampling grid, then sampled
    bicubically on a finer grid, then averaged down to the output. Otherwise it is sampled bicubically; a shift by whole
    pixels copies pixels unchanged. Beyond the picture its edge is repeated.

    Args:
        image: uint8 [h, w, 3].
        matrix: [2, 3], from pixels of the image to pixels of the output.
        shape: (height, width) of the output.

    Returns:
        uint8 [height, width, 3].
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
    """Sample bicubically, without antialiasing."""
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _region(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of the image that the output shows, and the matrix for it: large pictures then cost no more."""
    height, width = shape
    corners = np.array([(-0.5, -0.5), (width - 0.5, -0.5), (-0.5, height - 0.5), (width - 0.5, height - 0.5)])
    seen = transform_points(invert(matrix), corners)
    reach = _REACH * max(1.0, 1.0 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    limit = np.array([image.shape[1], image.shape[0]])
    # If the output lies completely outside of the picture, the nearest pixel is left.
    first = np.clip(np.floor(seen.min(0) - reach), 0, limit - 1).astype(int)
    last = np.clip(np.ceil(seen.max(0) + reach), first, limit - 1).astype(int)
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ first
    return np.ascontiguousarray(image[first[1] : last[1] + 1, first[0] : last[0] + 1]), shifted
