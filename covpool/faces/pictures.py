"""Opens pictures of any kind as upright 8-bit RGB arrays, by one rule for grey and for colour.

The rule: the EXIF orientation is applied; 16-bit grey is reduced to 8 bits over its full range; transparency is laid
over black; then everything becomes RGB, so that a grey picture and the same picture saved with three equal channels
give the same array. No contrast or colour is adapted to the single picture.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

# Raster formats that data sets come in. Pillow's other readers (some of which start programs) are not offered
# untrusted bytes.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class PictureError(ValueError):
    """A picture can't be read; the message says which and why."""


def decode_picture(content: bytes, name: str) -> np.ndarray:
    """Return the picture in `content` as uint8 [h, w, 3] RGB, upright; `name` stands in errors.

    Raises PictureError if the bytes are no complete picture in one of FORMATS, or hold more pixels than
    PIL.Image.MAX_IMAGE_PIXELS (the guard against decompression bombs).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                image.load()
                return np.array(_to_rgb(ImageOps.exif_transpose(image)))
    # Pillow's readers raise nearly anything on damaged bytes (struct.error, SyntaxError, IndexError, ...).
    except Exception as error:
        raise PictureError(
            f"cannot read picture {name}: {error} (wanted a complete picture, one of {', '.join(FORMATS)}, of at most "
            f"{Image.MAX_IMAGE_PIXELS} pixels); replace it, or run the validation again so that it is left out"
        ) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"grey values from {values.min()} to {values.max()} are neither 8 nor 16 bits")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("grey values are floating-point numbers of unknown range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("RGB")
