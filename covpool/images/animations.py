"""Reads the frames of animated GIF, WebP and PNG files, one at a time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from covpool.images.opener import MAX_PIXELS, PictureError

#: Formats whose files may be animations. The pages of a TIFF are not an animation.
FORMATS = ("GIF", "PNG", "WEBP")
#: Milliseconds that a frame is shown if the file does not say how long.
DURATION = 100


def is_animated(content: bytes) -> bool:
    """Return whether the bytes are an animation; False also if they are not a picture."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return bool(getattr(image, "is_animated", False))
    # On damaged bytes, Pillow's readers raise nearly anything. The opener of single pictures says what is wrong.
    except Exception:
        return False


def read_frames(content: bytes, name: str) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the frames of an animation and their times.

    Args:
        content: The bytes of the file.
        name: The name of the file, for messages.

    Yields:
        The frame as uint8 [h, w, 3] RGB, with transparency laid over black, and the time at which it appears, in
        seconds.

    Raises:
        PictureError: The picture is too large, or a frame is damaged.
    """
    time = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width}x{image.height} is more than {MAX_PIXELS} pixels")
                for number in range(image.n_frames):
                    image.seek(number)
                    frame = image.convert("RGBA")
                    frame = Image.alpha_composite(Image.new("RGBA", frame.size, "black"), frame)
                    yield np.array(frame.convert("RGB")), time / 1000
                    time += image.info.get("duration") or DURATION
    except Exception as error:
        raise PictureError(name, " ".join(str(error).split())[:200] or type(error).__name__) from error
