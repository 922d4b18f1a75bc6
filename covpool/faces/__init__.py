"""Faces: finds them, turns them upright onto one template and cuts them out.

Start at `normalise_dataset`, which turns a validated manifest into arrays of aligned faces. For a single picture:
`face = detect(image, create("mtcnn"))`, then `align(image, face.landmarks, size, margin)`.
"""

from covpool.faces.crops import DETECTORS, FALLBACKS, NormaliseError
from covpool.faces.detectors import DetectorMissing, Face, create, detect, detect_all, shared, smallest_face
from covpool.faces.geometry import LANDMARKS, TEMPLATE, align, similarity_transform
from covpool.faces.normalise import describe, normalise_dataset
from covpool.images.opener import PictureError, decode_picture

__all__ = [
    "DETECTORS",
    "FALLBACKS",
    "LANDMARKS",
    "TEMPLATE",
    "DetectorMissing",
    "Face",
    "NormaliseError",
    "PictureError",
    "align",
    "create",
    "decode_picture",
    "describe",
    "detect",
    "detect_all",
    "normalise_dataset",
    "shared",
    "similarity_transform",
    "smallest_face",
]
