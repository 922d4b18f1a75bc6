"""Pictures of every kind against arrays made by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from covpool.faces import PictureError, decode_picture

GREY = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], -1)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def decoded(image: Image.Image, kind: str = "PNG", **options) -> np.ndarray:
    return decode_picture(encoded(image, kind, **options), "test")


def test_colour_comes_back_as_it_is():
    np.testing.assert_array_equal(decoded(Image.fromarray(COLOUR)), COLOUR)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_grey_is_three_equal_channels_whatever_the_format(kind):
    rgb = decoded(Image.fromarray(GREY), kind)
    np.testing.assert_array_equal(rgb, np.repeat(GREY[..., None], 3, axis=2))
    assert rgb.dtype == np.uint8


def test_grey_and_grey_saved_as_colour_are_the_same():
    as_colour = Image.fromarray(GREY).convert("RGB")
    np.testing.assert_array_equal(decoded(Image.fromarray(GREY)), decoded(as_colour))
    np.testing.assert_array_equal(decoded(Image.fromarray(GREY)), decoded(as_colour, "WEBP", lossless=True))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_range(kind):
    sixteen = GREY.astype(np.uint16) * 257
    rgb = decoded(Image.fromarray(sixteen), kind)
    np.testing.assert_array_equal(rgb[..., 0], GREY)


def test_bilevel_is_black_and_white():
    rgb = decoded(Image.fromarray(GREY > 100))
    np.testing.assert_array_equal(rgb[..., 1], np.where(GREY > 100, 255, 0))


def test_palette_and_palette_with_a_transparent_colour():
    palette = Image.fromarray(COLOUR).quantize(8)
    np.testing.assert_array_equal(decoded(palette), np.asarray(palette.convert("RGB")))
    indices = np.asarray(palette)
    rgb = decoded(palette, transparency=int(indices[0, 0]))
    assert (rgb[indices == indices[0, 0]] == 0).all(), "transparent is laid over black"
    assert (rgb[indices != indices[0, 0]] == np.asarray(palette.convert("RGB"))[indices != indices[0, 0]]).all()


def test_transparency_is_laid_over_black():
    alpha = np.full(GREY.shape, 128, np.uint8)
    alpha[0] = 0
    alpha[1] = 255
    rgb = decoded(Image.fromarray(np.dstack([COLOUR, alpha])))
    assert (rgb[0] == 0).all()
    np.testing.assert_array_equal(rgb[1], COLOUR[1])
    np.testing.assert_allclose(rgb[2:], COLOUR[2:] * (128 / 255), atol=1.01)


def test_cmyk_is_colour():
    assert decoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG").shape == COLOUR.shape


# EXIF 2.3, tag 274: where the stored row 0 and column 0 belong.
UPRIGHT = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    image = Image.fromarray(COLOUR)
    exif = image.getexif()
    exif[274] = orientation
    np.testing.assert_array_equal(decoded(image, exif=exif), UPRIGHT[orientation](COLOUR))


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", encoded(Image.fromarray(COLOUR))[:-30], encoded(Image.fromarray(COLOUR), "JPEG")[:200]],
    ids=["empty", "text", "cut PNG", "cut JPEG"],
)
def test_unreadable_bytes_are_an_error_that_names_the_picture(content):
    with pytest.raises(PictureError, match=r"cannot read picture train/anger/x\.png"):
        decode_picture(content, "train/anger/x.png")


def test_formats_that_run_other_programs_are_refused():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    with pytest.raises(PictureError, match="cannot identify"):
        decode_picture(postscript, "x.eps")


def test_a_decompression_bomb_is_refused(monkeypatch):
    content = encoded(Image.fromarray(COLOUR))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", COLOUR.shape[0] * COLOUR.shape[1] - 1)
    with pytest.raises(PictureError, match="34 pixels"):
        decode_picture(content, "x.png")


def test_floating_point_grey_is_refused():
    with pytest.raises(PictureError, match="unknown range"):
        decoded(Image.fromarray(GREY.astype(np.float32)), "TIFF")


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@settings(deadline=None)
@given(st.data())
def test_damaged_pictures_decode_or_are_an_error_and_nothing_else(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"]))
    content = bytearray(encoded(Image.fromarray(COLOUR), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode_picture(bytes(content), "x")
    except PictureError:
        return
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
