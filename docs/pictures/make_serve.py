"""Makes serve.png: the page of `covpool serve` with a drawn face that the network has not seen.

stages/py docs/pictures/make_serve.py [exports/cpu/model.onnx]     (needs Chromium and ChromeDriver)
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from covpool.rendered import render_face
from tests.serve.browser import chromium
from tests.serve.server import running

HERE = Path(__file__).resolve().parent
#: Beyond the persons of the default data set.
IDENTITY, EXPRESSION, SIZE = 203, "surprise", 352
COLOURS = 256


def main(model: str) -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "drawn.png"
        Image.fromarray(render_face(IDENTITY, EXPRESSION, image_size=SIZE).image).save(photo)
        with running(model) as (_, port), chromium(Path(folder) / "profile") as browser:
            browser.look(1280)
            browser.open(f"http://127.0.0.1:{port}/")
            browser.wait("return document.getElementById('model').textContent.includes('.onnx')")
            browser.type("#files", str(photo))
            browser.wait("return document.querySelector('.card .covariance')?.complete")
            browser.run("document.querySelector('.matrices').open = true; window.scrollTo(0, 0)")
            content = browser.screenshot()
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(HERE / "serve.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "exports/cpu/model.onnx")
