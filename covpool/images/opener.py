"""Reads untrusted pictures as upright 8-bit RGB arrays, by one rule for grey and for colour.

The rule: apply the EXIF orientation; keep the upper 8 bits of 16-bit values; lay transparency over black; convert to
RGB. So a grey picture and the same picture saved with three equal channels give the same array. Contrast and colour
are not adapted to the single picture.

The stages validate and normalise both read pictures through this module, so normalise can read every picture that
validate calls usable.
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

# Raster formats that data sets use. Pillow's other readers (some of them start programs) never see untrusted bytes.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

#: The file name extensions of each format.
SUFFIXES = {
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}

#: Larger pictures count as decompression bombs. The largest cameras make 61 million pixels.
MAX_PIXELS = 8192 * 8192

#: Most scans of a JPEG. A progressive JPEG has about ten. Each scan costs a pass over the whole picture, and a file of
#: a few kilobytes can have thousands.
MAX_SCANS = 100

#: Frame headers of JPEG data without Huffman coding (SOF9 to SOF15). The minimum size of such data is not known.
_ARITHMETIC = re.compile(rb"\xff[\xc9-\xcb\xcd-\xcf]")

# Longest reason in an error, in characters. Pillow's own message may quote the file.
_REASON_LENGTH = 200

_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class PictureError(ValueError):
    """A picture can't be used. The message says which picture and why; `reason` holds the reason alone."""

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
    """A picture that was read.

    Attributes:
        pixels: uint8 [h, w, 3] RGB, upright.
        format: One of FORMATS.
        mode: Pillow's mode of the picture as stored, such as L, RGB or CMYK.
        conversions: What was done beyond plain decoding, in words.
    """

    pixels: np.ndarray
    format: str
    mode: str
    conversions: tuple[str, ...]


def read_picture(content: bytes, name: str) -> Picture:
    """Read a picture. Its size is checked before pixels are decoded.

    Args:
        content: The bytes of the file.
        name: The name of the picture in errors.

    Returns:
        The picture, with its pixels as uint8 [h, w, 3] RGB.

    Raises:
        PictureError: The bytes are not one complete picture in one of FORMATS; or they hold several pictures (an
            animation, pages), more than MAX_PIXELS pixels, less data than this size needs, or values that can't be
            converted to 8 bits.
    """
    try:
        with warnings.catch_warnings():
            # Pillow's own limit, for formats that declare their size only during decoding.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                # The marker of a scan can't occur inside the data of a scan, so counting markers counts scans.
                if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > MAX_SCANS:
                    raise ValueError(f"more than {MAX_SCANS} scans")
                if image.format in ("JPEG", "MPO"):
                    _check_jpeg_data(image, content)
                return _decoded(image)
    except UnidentifiedImageError:
        raise PictureError(name, "not a picture in a known format") from None
    # On damaged bytes, Pillow's readers raise nearly anything (struct.error, SyntaxError, IndexError, ...).
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(name, reason[:_REASON_LENGTH]) from error


def decode_picture(content: bytes, name: str) -> np.ndarray:
    """Read the pixels of a picture.

    Args:
        content: The bytes of the file.
        name: The name of the picture in errors.

    Returns:
        uint8 [h, w, 3] RGB, upright.

    Raises:
        PictureError: As `read_picture` does.
    """
    return read_picture(content, name).pixels


def _decoded(image: Image.Image) -> Picture:
    """Apply the rule of this module to an opened picture."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels")
    # Some cameras write several pictures into one JPEG (MPO): the first is the photo, the others are previews of it.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError("several pictures in one file (an animation, or pages)")
    # Pillow silently keeps only the upper 8 bits of 16-bit colour while it loads.
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
    """Raise ValueError if a JPEG has less data than the size in its header needs.

    libjpeg silently fills missing data with grey. Each 8x8 block takes at least two codes of one bit each (ITU-T T.81,
    F.1.2), or one code if the picture is progressive (G.1.2).
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
            f"its header says {image.width}x{image.height}, so expected at least {needed} bytes, got {len(content)}"
        )


def _parts(whole: int, part: int) -> int:
    """Return how many parts cover the whole: the quotient, rounded up."""
    return -(-whole // part)


_standard_error = threading.Lock()


@contextlib.contextmanager
def _without_libtiff_messages() -> Iterator[None]:
    """Discard what libtiff writes to standard error (thousands of lines for some files); failures still raise."""
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
    """Keep the upper 8 bits of 16-bit grey values."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values from {values.min()} to {values.max()} do not fit into 16 bits")
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))
