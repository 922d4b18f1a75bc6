"""Inspects one picture: whether it is usable, its properties, and how it will be converted to an RGB array."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from covpool.images import opener
from covpool.validation.duplicates import perceptual_hashes

#: In pixels. No network can read a face with a shorter side.
MIN_SIDE = 16

#: Larger files are not read at all. This is twice the size of MAX_PIXELS uncompressed pixels with 16 bits and
#: transparency.
MAX_BYTES = 16 * opener.MAX_PIXELS


@dataclass(frozen=True)
class Finding:
    """What an inspection found.

    Attributes:
        columns: Columns of the validated manifest.
        hashes: The result of `duplicates.perceptual_hashes`; None for a bad picture or one without contrast.
    """

    columns: dict
    hashes: np.ndarray | None = None


def inspect(folder: Path, row: dict[str, str]) -> Finding:
    """Inspect one picture. It is decoded as in the stage normalise, which can therefore read every picture that is ok.

    Args:
        folder: The folder of the manifest.
        row: The picture's row of the manifest.

    Returns:
        The finding. Its columns are `status` (ok or bad) and `reason` (why it is bad). A picture that is ok also has
        `width` and `height` (upright, in pixels), `mode` and `format` as stored, `brightness` (mean grey level, 0 to
        255), and `notes` (anything unusual).
    """
    cv2.setNumThreads(1)  # Each core already works on a separate picture.
    path = Path(folder) / row["path"]
    try:
        if path.stat().st_size > MAX_BYTES:
            return _bad(f"the file is larger than {MAX_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        return _bad(f"the file can't be read: {error.strerror}")
    if hashlib.sha256(content).hexdigest() != row["sha256"]:
        return _bad("the file has changed since it was fetched (its SHA-256 differs)")
    try:
        picture = opener.read_picture(content, row["path"])
    except opener.PictureError as error:
        return _bad(error.reason)
    height, width = picture.pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        return _bad(f"{width}x{height}: both sides must have at least {MIN_SIDE} pixels")
    notes = list(picture.conversions)
    if path.suffix.casefold() not in opener.SUFFIXES[picture.format]:
        notes.append(f"named {path.suffix or 'without an extension'}, is {picture.format}")
    grey = cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2GRAY)
    columns = {
        "status": "ok",
        "reason": "",
        "width": width,
        "height": height,
        "mode": picture.mode,
        "format": picture.format,
        "brightness": round(float(grey.mean()), 1),
        "notes": "; ".join(notes),
    }
    return Finding(columns, perceptual_hashes(grey))


def _bad(reason: str) -> Finding:
    return Finding({"status": "bad", "reason": reason})
