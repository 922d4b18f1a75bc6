"""Opens pictures that nobody vouches for, as upright 8-bit RGB arrays, by one rule for grey and for colour.

The rule: the EXIF orientation is applied; of 16-bit values the upper 8 bits are kept; transparency is laid over
black; then everything becomes RGB, so that a grey picture and the same picture saved with three equal channels
give the same array. No contrast or colour is adapted to the single picture.

The stages validate and normalise both read through this module: what the one calls usable the other can read.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# Raster formats that data sets come in. Pillow's other readers (some of which start programs) are not offered
# untrusted bytes.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

#: The endings of their files' names.
SUFFIXES = {
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}

#: Larger pictures are taken for decompression bombs: the largest cameras make 61 million pixels.
MAX_PIXELS = 8192 * 8192

#: Of a JPEG. A progressive one has some ten; each costs a pass over the whole picture, and a file of a few kilobytes
#: can ask for thousands.
MAX_SCANS = 100

#: A JPEG's data that is not Huffman-coded, whose least size is not known (frame headers SOF9 to SOF15).
_ARITHMETIC = re.compile(rb"\xff[\xc9-\xcb\xcd-\xcf]")

# Longest reason that an error gives, in characters: Pillow's may quote the file.
_REASON_LENGTH = 200

_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class PictureError(ValueError):
    """A picture can't be used; the message says which and why, `reason` the latter alone."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return (
            f"cannot read picture {self.name}: {self.reason} (expected one whole picture, {', '.join(FORMATS)}, of at "
            f"most {MAX_PIXELS} pixels); replace it, or run the validation again so that it is left out"
        )


@dataclass(frozen=True)
class Picture:
    """A picture read: `pixels` uint8 [h, w, 3] RGB, upright; its `format`, Pillow's `mode` of it as stored, and
    `conversions`: what was done beside plain decoding, in words.
    """

    pixels: np.ndarray
    format: str
    mode: str
    conversions: tuple[str, ...]


def read_picture(content: bytes, name: str) -> Picture:
    """Return the picture in `content`; `name` stands in errors.

    The size is judged before pixels are decoded.

    Args:
        content: The bytes of the file.
        name: What errors call the picture.

    Raises:
        PictureError: The bytes are not one complete picture in one of FORMATS, hold several (an animation, pages), more
            than MAX_PIXELS pixels, less data than the size takes, or values that can't be brought to 8 bits.
    """
    try:
        with warnings.catch_warnings():
            # Pillow's own limit, should a format declare its size only while it is being decoded.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                # Inside of a scan's data the marker of a scan can't occur.
                if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > MAX_SCANS:
                    raise ValueError(f"more than {MAX_SCANS} scans")
                if image.format in ("JPEG", "MPO"):
                    _check_jpeg_data(image, content)
                return _decoded(image)
    except UnidentifiedImageError:
        raise PictureError(name, "no picture in a known format") from None
    # Pillow's readers raise nearly anything on damaged bytes (struct.error, SyntaxError, IndexError, ...).
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(name, reason[:_REASON_LENGTH]) from error


def decode_picture(content: bytes, name: str) -> np.ndarray:
    """Return the pixels of the picture in `content` as uint8 [h, w, 3] RGB, upright; see `read_picture`."""
    return read_picture(content, name).pixels


def _decoded(image: Image.Image) -> Picture:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels")
    # A JPEG of several (MPO, as some cameras write) has its picture first; the others are previews of it.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError("several pictures in one file (an animation, or pages)")
    # Pillow keeps the upper 8 bits of 16-bit colour while it loads, without a word.
    conversions = ["16 bits reduced to 8"] if image.mode not in _SIXTEEN_BIT and ";16" in str(image.tile) else []
    with _without_libtiff_messages() if image.format == "TIFF" else contextlib.nullcontext():
        image.load()
    mode = image.mode
    if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        conversions.append("turned upright")
    image_format = "JPEG" if image.format == "MPO" else image.format
    image = ImageOps.exif_transpose(image)
    if image.mode in _SIXTEEN_BIT:
        image = _eight_bit(image)
        conversions.append("16 bits reduced to 8")
    elif image.mode == "F":
        raise ValueError("grey values are floating-point numbers of unknown range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        conversions.append("transparency laid over black")
    elif mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        conversions.append(f"{mode} to RGB")
    return Picture(np.array(image.convert("RGB")), image_format, mode, tuple(conversions))


def _check_jpeg_data(image: Image.Image, content: bytes) -> None:
    """Raise ValueError if a JPEG has less data than the size in its header takes.

    libjpeg fills what is missing with grey and says nothing. Of each 8x8 block at least two codes are stored, of one
    bit each (ITU-T T.81, F.1.2), or one code if the picture is progressive (G.1.2).
    """
    if _ARITHMETIC.search(content):
        return
    widest, highest = max(layer[1] for layer in image.layer), max(layer[2] for layer in image.layer)
    blocks = sum(
        _parts(image.width * horizontal, widest * 8) * _parts(image.height * vertical, highest * 8)
        for _, horizontal, vertical, _ in image.layer
    )
    needed = blocks * (1 if "progressive" in image.info else 2) // 8
    if len(content) < needed:
        raise ValueError(
            f"its header says {image.width}x{image.height}, which takes {needed} bytes or more, but it has "
            f"{len(content)}"
        )


def _parts(whole: int, part: int) -> int:
    """How many parts it takes to cover the whole."""
    return -(-whole // part)


_standard_error = threading.Lock()


@contextlib.contextmanager
def _without_libtiff_messages() -> Iterator[None]:
    """Keep libtiff from writing to standard error, thousands of lines for some files; its failures are exceptions."""
    with _standard_error:
        kept = os.dup(2)
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nothing, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nothing)


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values from {values.min()} to {values.max()} are neither 8 nor 16 bits")
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
