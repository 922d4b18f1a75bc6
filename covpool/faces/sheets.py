"""Contact sheets to look at: a sample of each class, and the pictures that most likely went wrong."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from covpool.faces.crops import Crop
from covpool.images import opener
from covpool.pipeline import artifacts

SAMPLE = 60
WORST = 40
COLUMNS = 10
WORST_COLUMNS = 4

# Pixels: a picture's side on a sheet, the gap around it, a line of text.
TILE = 100
GAP = 6
LINE = 12

PAPER = (255, 255, 255)
INK = (30, 30, 30)
FALLBACK_INK = (200, 60, 0)
BOX_INK = (255, 200, 0)
POINT_INK = (0, 230, 80)


@dataclass(order=True)
class _Example:
    rank: tuple
    row: dict = field(compare=False)
    crop: Crop = field(compare=False)
    tile: Image.Image | None = field(compare=False)


class Examples:
    """Collects a sample of each class and the worst detections while crops are made, in bounded memory.

    The sample is the SAMPLE pictures with the smallest SHA-256: as good as a random choice, but always the same, and it
    hardly changes if pictures are added. The worst are the pictures without a face, then those with the lowest scores.
    """

    def __init__(self) -> None:
        self._samples: dict[str, list[_Example]] = {}
        self._seen: dict[str, int] = {}
        self._worst: list[_Example] = []

    def add(self, row: dict[str, str], crop: Crop) -> None:
        """Add a picture: its row in the manifest and its crop."""
        name = row["class"]
        self._seen[name] = self._seen.get(name, 0) + 1
        if crop.image is not None:
            _keep(self._samples.setdefault(name, []), (row["sha256"], row["path"]), row, crop, SAMPLE)
        if crop.method != "none":
            score = -1.0 if crop.face is None else crop.face.score
            _keep(self._worst, (score, row["path"]), row, crop, WORST)

    def draw(self, folder: Path, images: Path) -> None:
        """Write the sheets.

        Args:
            folder: gets `<class>.png` for each class that has pictures, and `worst.png`.
            images: folder of the pictures, which are read again for `worst.png`.
        """
        for name, sample in self._samples.items():
            title = f"{name}: {len(sample)} of {self._seen[name]} pictures. Orange: no face found, centre taken."
            _write(folder / f"{name}.png", _sheet(title, [_sample_tile(example) for example in sample], COLUMNS))
        if self._worst:
            title = f"The {len(self._worst)} detections with the lowest scores, lowest first: picture, crop."
            tiles = [_finding_tile(example, images) for example in self._worst]
        else:
            title, tiles = "No face was searched for: the pictures were taken as aligned faces.", []
        _write(folder / "worst.png", _sheet(title, tiles, WORST_COLUMNS))


def _keep(kept: list[_Example], rank: tuple, row: dict, crop: Crop, most: int) -> None:
    """Insert an example into `kept`, which is sorted by rank and keeps at most `most` examples."""
    if len(kept) == most and rank >= kept[-1].rank:
        return
    tile = None if crop.image is None else _fitted(crop.image)
    bisect.insort(kept, _Example(rank, row, crop, tile))
    del kept[most:]


def _fitted(image: np.ndarray) -> Image.Image:
    """Return `image` reduced to a tile, with its proportions."""
    picture = Image.fromarray(image)
    picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    return picture


def _sample_tile(example: _Example) -> Image.Image:
    """Draw the crop, with a frame in another colour if no face was found."""
    tile = Image.new("RGB", (TILE, TILE), PAPER)
    tile.paste(example.tile, (0, 0))
    if example.crop.method == "center":
        ImageDraw.Draw(tile).rectangle((0, 0, TILE - 1, TILE - 1), outline=FALLBACK_INK, width=3)
    return tile


def _finding_tile(example: _Example, images: Path) -> Image.Image:
    """Draw the picture with its detection, the crop beside it, and a text below."""
    row, crop = example.row, example.crop
    tile = Image.new("RGB", (2 * TILE + GAP, TILE + 3 * LINE), PAPER)
    tile.paste(_marked_picture(images / row["path"], crop), (0, 0))
    if example.tile is not None:
        tile.paste(example.tile, (TILE + GAP, 0))
    score = "no face" if crop.face is None else f"score {crop.face.score:.3f}"
    draw = ImageDraw.Draw(tile)
    draw.text((0, TILE), f"{row['split']} {row['class']}", INK, _font())
    draw.text((0, TILE + LINE), _shortened(Path(row["path"]).name), INK, _font())
    ink = INK if crop.method not in ("center", "drop") else FALLBACK_INK
    draw.text((0, TILE + 2 * LINE), f"{crop.method}, {score}", ink, _font())
    return tile


def _marked_picture(path: Path, crop: Crop) -> Image.Image:
    """Draw the picture with the face's box and landmarks."""
    image = opener.decode_picture(path.read_bytes(), str(path))
    tile = _fitted(image)
    scale = tile.width / image.shape[1]
    draw = ImageDraw.Draw(tile)
    box = crop.face.box if crop.face is not None else crop.box
    if box is not None:
        x, y, width, height = (value * scale for value in box)
        draw.rectangle((x, y, x + width, y + height), outline=BOX_INK)
    for x, y in [] if crop.face is None else crop.face.landmarks * scale:
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=POINT_INK)
    return tile


def _shortened(name: str, most: int = 34) -> str:
    return name if len(name) <= most else name[: most // 2 - 1] + "..." + name[-(most // 2 - 2) :]


def _sheet(title: str, tiles: list[Image.Image], columns: int) -> Image.Image:
    """Arrange tiles of one size in rows below a title."""
    width, height = tiles[0].size if tiles else (TILE, 0)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (GAP + columns * (width + GAP), LINE + 2 * GAP + rows * (height + GAP)), PAPER)
    ImageDraw.Draw(sheet).text((GAP, GAP / 2), title, INK, _font())
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (GAP + column * (width + GAP), LINE + 2 * GAP + row * (height + GAP)))
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(LINE - 2)


def _write(path: Path, sheet: Image.Image) -> None:
    with artifacts.atomic_file(path, "wb") as stream:
        sheet.save(stream, format="PNG")
