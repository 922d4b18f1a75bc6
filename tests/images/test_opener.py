"""Pictures of every kind against arrays made by hand."""

from __future__ import annotations

import io
import os
import pickle
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from covpool.images import PictureError, decode_picture, opener, read_picture

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


def test_sixteen_bit_colour_and_grey_are_reduced_alike_and_told():
    values = np.random.default_rng(0).integers(0, 65536, (20, 30), np.uint16)
    ways, colour = [], np.repeat(values[..., None], 3, axis=2)
    for pixels in (values, colour):
        done, content = cv2.imencode(".png", pixels)
        assert done
        ways.append(read_picture(content.tobytes(), "x.png"))
    for picture in ways:
        np.testing.assert_array_equal(picture.pixels, colour >> 8)
        assert picture.conversions == ("16 bits reduced to 8",)


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded():
    content = encoded(Image.fromarray(COLOUR), "JPEG", progressive=True)
    assert read_picture(content, "x.jpg").pixels.shape == COLOUR.shape
    last = content.rindex(b"\xff\xda")
    with pytest.raises(PictureError, match="more than 100 scans"):
        read_picture(content[:last] + 200 * content[last:-2] + content[-2:], "x.jpg")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_that_claims_to_be_much_larger_is_refused(options):
    """A header of 8192x8192 over the data of 64x64: libjpeg would add grey."""
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = bytearray(encoded(Image.fromarray(photo), "JPEG", **options))
    assert read_picture(bytes(content), "x.jpg").pixels.shape == (64, 64, 3)
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    content[frame + 5 : frame + 9] = struct.pack(">HH", 8192, 8192)
    with pytest.raises(PictureError, match="its header says 8192x8192, so expected at least [0-9]+ bytes, got [0-9]+"):
        read_picture(bytes(content), "x.jpg")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "quality": 1}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_of_one_colour_is_as_large_as_it_says(mode, options):
    """The smallest data that there is for its size."""
    for size in ((16, 16), (2049, 2047)):
        assert decoded(Image.new(mode, size), "JPEG", **options).shape == (size[1], size[0], 3)


def test_hostile_tiffs_leave_standard_error_alone(capfd):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    content = bytearray(encoded(image, "TIFF", compression="tiff_lzw"))
    for way in range(20):
        damaged = bytearray(content)
        damaged[200 + way : 200_000 : 97] = b"\xff" * len(damaged[200 + way : 200_000 : 97])
        with pytest.raises(PictureError):
            read_picture(bytes(damaged), "x.tiff")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


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
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


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


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"


def test_formats_that_run_other_programs_are_refused():
    with pytest.raises(PictureError, match="not a picture in a known format"):
        decode_picture(POSTSCRIPT, "x.eps")


def test_a_decompression_bomb_is_refused_by_its_header(monkeypatch):
    content = encoded(Image.fromarray(COLOUR))
    monkeypatch.setattr(opener, "MAX_PIXELS", 35)
    assert decode_picture(content, "x.png").shape == COLOUR.shape
    monkeypatch.setattr(opener, "MAX_PIXELS", 34)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda image: pytest.fail("pixels were decoded"))
    with pytest.raises(PictureError, match="7x5 is more than 34 pixels"):
        decode_picture(content, "x.png")


def test_our_limit_acts_before_pillows():
    assert opener.MAX_PIXELS < Image.MAX_IMAGE_PIXELS
    with pytest.raises(PictureError, match=f"30000x30000 is more than {opener.MAX_PIXELS} pixels|decompression bomb"):
        decode_picture(encoded(Image.new("1", (30000, 30000))), "x.png")


def test_only_a_bombs_warning_is_an_error():
    """Pillow warns of metadata that is cut short, and goes on without it; so do we."""
    with pytest.warns(UserWarning, match="tag 305"):
        pixels = decode_picture(damaged_tag(encoded(Image.fromarray(COLOUR), "TIFF")), "x.tiff")
    np.testing.assert_array_equal(pixels, COLOUR)


def damaged_tag(content: bytes) -> bytes:
    """A little-endian TIFF whose software tag (305), added here, points beyond the file."""
    start = struct.unpack("<I", content[4:8])[0]
    count = struct.unpack("<H", content[start : start + 2])[0]
    entries = [content[start + 2 + 12 * number :][:12] for number in range(count)]
    entries.append(struct.pack("<HHII", 305, 2, 5000, len(content) + 999))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    padded = content + bytes(len(content) % 2)
    return padded[:4] + struct.pack("<I", len(padded)) + padded[8:] + directory


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_pictures_in_one_file_are_refused(kind):
    others = [Image.fromarray(255 - COLOUR), Image.fromarray(COLOUR[::-1])]
    with pytest.raises(PictureError, match="several pictures in one file"):
        decoded(Image.fromarray(COLOUR), kind, save_all=True, append_images=others)


def test_of_a_cameras_jpeg_with_previews_the_picture_is_taken():
    image = Image.fromarray(np.repeat(np.repeat(COLOUR, 8, 0), 8, 1))
    content = encoded(image, "MPO", save_all=True, append_images=[image.resize((8, 8))])
    picture = read_picture(content, "x.jpg")
    assert picture.format == "JPEG" and picture.pixels.shape == (40, 56, 3)


@pytest.mark.parametrize(
    ("image", "kind", "options", "conversions"),
    [
        (Image.fromarray(COLOUR), "PNG", {}, ()),
        (Image.fromarray(GREY.astype(np.uint16) * 257), "PNG", {}, ("16 bits reduced to 8",)),
        (Image.fromarray(COLOUR).convert("CMYK"), "JPEG", {}, ("CMYK to RGB",)),
        (Image.fromarray(COLOUR).convert("RGBA"), "PNG", {}, ("transparency laid over black",)),
        (Image.fromarray(COLOUR).quantize(8), "PNG", {"transparency": 0}, ("transparency laid over black",)),
        (
            Image.fromarray(COLOUR),
            "JPEG",
            {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
            ("turned upright",),
        ),
    ],
    ids=["plain", "16 bits", "CMYK", "alpha", "palette", "rotated"],
)
def test_what_was_converted_is_told(image, kind, options, conversions):
    assert read_picture(encoded(image, kind, **options), "x").conversions == conversions


def test_reasons_are_the_same_every_time():
    """No address of an object, as Pillow's own text has it."""
    reasons = []
    for _ in range(2):
        with pytest.raises(PictureError) as caught:
            decode_picture(b"no picture", "x")
        reasons.append(caught.value.reason)
    assert reasons[0] == reasons[1] and "0x" not in reasons[0]


def test_an_error_can_cross_processes():
    with pytest.raises(PictureError) as caught:
        decode_picture(b"", "x.png")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.reason == caught.value.reason


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
