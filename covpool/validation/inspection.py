"""Looks at one picture: can it be used, what is it, and what will be done to it on the way to an RGB array."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from covpool.images import opener
from covpool.validation.duplicates import perceptual_hashes

#: Shorter sides show no face that a network could read.
MIN_SIDE = 16

#: Larger files are not read at all: twice what MAX_PIXELS take uncompressed, in 16 bits with transparency.
MAX_BYTES = 16 * opener.MAX_PIXELS


@dataclass(frozen=True)
class Finding:
    """What is known of a picture: `columns` of the validated manifest, and its perceptual `hashes` if it has any."""

    columns: dict
    hashes: np.ndarray | None = None


def inspect(folder: Path, row: dict[str, str]) -> Finding:
    """Look at the picture below `folder` that a row of the manifest names.

    Its `status` is ok or bad, and `reason` says why it is bad. Of a picture that is ok there are also `width` and
    `height` (upright), `mode` and `format` as stored, `brightness` (mean of the grey levels, 0 to 255), and `notes`:
    what is unusual about it. It is decoded as the stage normalise does it, so that what is ok here can be read there.
    """
    cv2.setNumThreads(1)  # Every core has a picture of its own.
    path = Path(folder) / row["path"]
    try:
        if path.stat().st_size > MAX_BYTES:
            return _bad(f"the file is larger than {MAX_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        return _bad(f"the file can't be read: {error.strerror}")
    if hashlib.sha256(content).hexdigest() != row["sha256"]:
        return _bad("the file is not the one that was fetched (another SHA-256)")
    try:
        picture = opener.read_picture(content, row["path"])
    except opener.PictureError as error:
        return _bad(error.reason)
    height, width = picture.pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        return _bad(f"{width}x{height}: a side below {MIN_SIDE} pixels")
    notes = list(picture.conversions)
    if path.suffix.casefold() not in opener.SUFFIXES[picture.format]:
        notes.append(f"named {path.suffix or 'without an ending'}, is {picture.format}")
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
