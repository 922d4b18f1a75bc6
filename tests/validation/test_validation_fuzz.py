"""Damaged copies of real picture files: no crash, no hang, no memory without bound, and validate and normalise agree.

They run in a process of their own, with a small limit on pixels, so that its memory and its time can be watched.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Damaged copies of each of the 21 files below.
COPIES, SLOW_COPIES = 40, 400

#: What one decoded picture may hold at once: its storage, the converted one and the array, and what libraries take.
PIXELS = 2_000_000
MEMORY_KB = 40 * PIXELS // 1024

SCRIPT = '''
import hashlib, io, json, resource, sys, time, warnings
from pathlib import Path
import numpy as np
from PIL import Image
from skimage import data
from covpool.images import opener
from covpool.faces import PictureError
from covpool.faces.crops import Settings, normalise_picture
from covpool.validation.inspection import inspect

folder, copies, pixels = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
opener.MAX_PIXELS = pixels
warnings.simplefilter("ignore")  # Pillow's own, of damaged metadata.
photo = Image.fromarray(data.astronaut()[20:240:3, 110:330:3])
grey = np.asarray(photo.convert("L"))
exif = photo.getexif()
exif[274] = 6
exif[305] = "camera"


def several():
    return {"save_all": True, "append_images": [photo.rotate(9)]}


WAYS = {
    "png": (photo, "PNG", {}), "png_palette": (photo.quantize(32), "PNG", {"transparency": 3}),
    "png_16": (Image.fromarray(grey.astype(np.uint16) * 257), "PNG", {}),
    "png_alpha": (photo.convert("RGBA"), "PNG", {}), "png_exif": (photo, "PNG", {"exif": exif}),
    "apng": (photo, "PNG", several()),
    "jpeg": (photo, "JPEG", {}), "jpeg_progressive": (photo, "JPEG", {"progressive": True, "exif": exif}),
    "jpeg_cmyk": (photo.convert("CMYK"), "JPEG", {}), "mpo": (photo, "MPO", several()),
    "gif": (photo, "GIF", {}), "gif_animated": (photo, "GIF", several()),
    "bmp": (photo, "BMP", {}), "ppm": (photo, "PPM", {}), "pgm": (photo.convert("L"), "PPM", {}),
    "tiff": (photo, "TIFF", {}), "tiff_lzw": (photo, "TIFF", {"compression": "tiff_lzw"}),
    "tiff_jpeg": (photo, "TIFF", {"compression": "jpeg"}), "tiff_pages": (photo, "TIFF", several()),
    "webp": (photo, "WEBP", {}), "webp_lossless": (photo, "WEBP", {"lossless": True, "exif": exif}),
}


def damaged(content, rng):
    """A copy with bytes changed, or a part cut out, copied elsewhere or made extreme, or the end lost or added to."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        place, length = int(rng.integers(0, len(content))), int(rng.integers(1, 9))
        # Every other time in the header, where sizes and offsets are.
        place = place % 64 if rng.random() < 0.5 else place
        way = rng.integers(0, 6)
        if way == 0:
            content[place : place + 1] = bytes([rng.integers(0, 256)])
        elif way == 1:
            content[place : place + length] = bytes([int(rng.choice([0, 1, 127, 128, 255]))]) * length
        elif way == 2:
            del content[place : place + length]
        elif way == 3:
            source = int(rng.integers(0, len(content)))
            content[place:place] = content[source : source + 8 * length]
        elif way == 4:
            content = content[: max(1, len(content) - 16 * length)]
        else:
            content += bytes(rng.integers(0, 256, 32, np.uint8))
    return bytes(content)


def outcome(content, number):
    path = folder / "train" / "a" / "x.png"
    path.write_bytes(content)
    row = {"path": "train/a/x.png", "split": "train", "class": "a", "sha256": hashlib.sha256(content).hexdigest()}
    columns = inspect(folder, row).columns
    try:
        crop = normalise_picture(Settings(folder, detector="none", size=48), row)
    except PictureError as error:
        assert columns["status"] == "bad", (number, columns, error)
        return "refused"
    if columns["status"] == "bad":
        assert "both sides must have" in columns["reason"], (number, columns)
        return "refused"
    assert crop.image.shape == (60, 60, 3) and columns["width"] * columns["height"] <= pixels
    return "read"


(folder / "train" / "a").mkdir(parents=True)
told = {"read": 0, "refused": 0, "slowest": 0.0}
before = None
for way, (image, kind, options) in WAYS.items():
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    outcome(stream.getvalue(), way)
    before = before or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(copies):
        rng = np.random.default_rng([len(way), sum(way.encode()), number])
        start = time.process_time()
        told[outcome(damaged(stream.getvalue(), rng), (way, number))] += 1
        told["slowest"] = max(told["slowest"], time.process_time() - start)
told["grown_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps(told))
'''


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
@pytest.mark.parametrize("copies", [COPIES, pytest.param(SLOW_COPIES, marks=pytest.mark.slow)])
def test_damaged_files_are_read_or_refused_alike_by_both_stages(tmp_path, copies):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(copies), str(PIXELS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # The limit is for a hang; it takes seconds.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(f"pictures: {told}")
    assert told["read"] + told["refused"] == 21 * copies
    assert min(told["read"], told["refused"]) > 2 * copies, "the damage is neither always fatal nor always harmless"
    assert told["grown_kb"] < MEMORY_KB
