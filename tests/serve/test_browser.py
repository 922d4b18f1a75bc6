"""The page in Chromium: a photo, a camera, the keyboard; and that nothing leaves the page's own address."""

import base64
import csv
import io
import re

import cv2
import numpy as np
import pytest
from skimage import data

from tests.serve.browser import CHROMIUM, DRIVER, chromium
from tests.serve.conftest import png

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")

TAB = "\ue004"
CARD = "return document.querySelector('.card h3')?.textContent"
STATUS = "return document.getElementById('status').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser whose camera shows a face at 640x480."""
    folder = tmp_path_factory.mktemp("browser")
    frame = np.ascontiguousarray(cv2.resize(data.astronaut()[:384], (640, 480))[..., ::-1])
    (folder / "camera.mjpeg").write_bytes(cv2.imencode(".jpg", frame)[1].tobytes() * 20)
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium(folder / "profile", *camera, f"--use-file-for-fake-video-capture={folder}/camera.mjpeg") as found:
        yield found


@pytest.fixture
def page(browser, port):
    """The browser with the page freshly loaded; afterwards: nothing was asked for elsewhere, nothing was blocked."""
    browser.open("about:blank")
    browser.requested(), browser.console()
    browser.look(1280)
    browser.open(f"http://127.0.0.1:{port}/")
    browser.wait("return document.getElementById('model').textContent.includes('model.onnx')")
    yield browser
    asked = browser.requested()
    assert any(address.endswith("/model") for address in asked)
    own = re.compile(rf"(blob:)?http://127\.0\.0\.1:{port}/|data:image/png")
    assert [address for address in asked if not own.match(address)] == []
    assert browser.console() == []


@pytest.fixture(scope="module")
def photo(portrait, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "=portrait.png"
    path.write_bytes(portrait)
    return path


def test_a_photo_becomes_a_card(page, photo):
    page.type("#files", str(photo))
    heading = page.wait(CARD)
    assert re.fullmatch(r"[a-z]+ \d+\.\d %", heading)
    page.wait("return document.getElementById('status').textContent.includes('1 face')")
    assert page.run("return document.querySelectorAll('.card .bars dt').length") == 7
    assert page.run("return document.querySelectorAll('#overlay circle').length") == 5
    assert page.run("return document.querySelectorAll('#overlay rect').length") == 1
    # The map is drawn over the crop, the matrices are pictures.
    drawn = "const map = document.querySelector('.card .map'); return !map.hidden && "
    assert page.run(drawn + "map.getContext('2d').getImageData(0, 0, 200, 200).data.some((value) => value > 0)")
    sizes = "return [...document.querySelectorAll('.matrices img')].map((image) => image.naturalWidth)"
    assert page.run(sizes) == [128, 128]
    page.run("document.querySelector('.toggle input').click()")
    assert page.run("return document.querySelector('.card .map').hidden") is True


@pytest.mark.parametrize(
    "event",
    [
        "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})",
        "new DragEvent('drop', {dataTransfer: data})",
    ],
)
def test_photos_can_be_pasted_and_dropped(page, portrait, event):
    page.run(
        "const bytes = Uint8Array.from(atob(arguments[0]), (each) => each.charCodeAt(0));"
        "const data = new DataTransfer();"
        "data.items.add(new File([bytes], 'one.png')); data.items.add(new File([bytes], 'two.png'));"
        f"document.dispatchEvent({event});",
        base64.b64encode(portrait).decode(),
    )
    page.wait("return document.querySelectorAll('#history tr td:nth-child(4)').length === 2")
    names = page.run(
        "return [...document.querySelectorAll('#history td:nth-child(2)')].map((each) => each.textContent)"
    )
    assert names == ["two.png", "one.png"]


def test_each_face_of_a_photo_gets_a_card(page, tmp_path):
    half = data.astronaut()[20:240, 110:330]
    (tmp_path / "two.png").write_bytes(png(np.concatenate([half, half[:, ::-1]], axis=1)))
    page.type("#files", str(tmp_path / "two.png"))
    page.wait("return document.querySelectorAll('.card').length === 2")
    assert page.run("return document.querySelectorAll('.card')[1].querySelector('h3').textContent").startswith(
        "Face 2: "
    )
    assert page.run("return document.querySelectorAll('#overlay rect').length") == 2


def test_the_history_can_be_downloaded_as_csv(page, photo):
    page.type("#files", str(photo))
    page.wait(CARD)
    page.wait("return !document.getElementById('download').disabled")
    # What the link would save.
    page.run(
        "URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return '#'; };"
        "HTMLAnchorElement.prototype.click = () => {};"
        "document.getElementById('download').click();"
    )
    (row,) = csv.DictReader(io.StringIO(page.wait("return window.saved")))
    # A spreadsheet must not take a file name for a formula.
    assert row["source"] == "'=portrait.png"
    assert row["expression"] and 0 < float(row["p_" + row["expression"]]) <= 1


def test_a_file_that_is_no_picture_is_said_to_be_none(page, tmp_path):
    (tmp_path / "notes.png").write_bytes(b"text")
    page.type("#files", str(tmp_path / "notes.png"))
    page.wait("return document.getElementById('status').classList.contains('bad')")
    assert page.run(STATUS).startswith("notes.png: ")


def test_the_camera_is_read_again_and_again(page):
    page.run("document.getElementById('camera').click()")
    page.wait("return document.getElementById('caption').textContent.includes('frames per second')")
    page.wait(CARD)
    page.run("document.querySelector('.toggle input').focus()")
    rows = "return document.querySelectorAll('#history tr').length"
    page.wait(rows + " > 5")
    # The cards are not made anew with each frame.
    assert page.run("return document.activeElement.matches('.toggle input')")
    page.run("document.getElementById('camera').click()")
    page.wait("return document.getElementById('status').textContent === 'The camera is off.'")


def test_all_can_be_reached_with_the_keyboard_and_has_a_name(page, photo):
    page.type("#files", str(photo))
    page.wait(CARD)
    page.wait("return !document.getElementById('download').disabled")
    page.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    seen = []
    for _ in range(12):
        page.press(TAB)
        seen.append(page.run("const a = document.activeElement; return a.id || a.className || a.tagName + a.type"))
    order = ["skip", "choose", "camera", "INPUTcheckbox", "SUMMARYundefined", "download", "clear", "scroll"]
    assert [each for each in seen if each in order][: len(order)] == order
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    for node in nodes:
        if not node.get("ignored") and node.get("role", {}).get("value") in ("button", "checkbox", "region", "image"):
            assert node.get("name", {}).get("value"), node


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_at_any_width(page, photo, width, scheme):
    page.look(width, scheme=scheme)
    page.type("#files", str(photo))
    page.wait(CARD)
    page.run("document.querySelector('.matrices').open = true")
    assert page.run("return document.documentElement.scrollWidth") == width
    for selector in (".card", ".drop", ".scroll", ".bars"):
        script = (
            "const box = document.querySelector(arguments[0]).getBoundingClientRect(); return [box.left, box.right]"
        )
        box = page.run(script, selector)
        assert 0 <= box[0] < box[1] <= width
    assert page.run("const s = document.querySelector('.scroll'); return s.scrollWidth <= s.clientWidth")
    colour = "return getComputedStyle(document.querySelector('{}')).{}"
    places = [(".card .quiet", "color"), (".card", "backgroundColor")]
    text, ground = (luminance(each) for each in (page.run(colour.format(*place)) for place in places))
    # WCAG 2.2, 1.4.3.
    assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5


def luminance(colour):
    """The relative luminance of `rgb(...)`, as WCAG defines it."""
    parts = np.array([int(each) for each in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
