"""Faces in the report: a sheet of the aligned ones, the least certain, and examples of right and wrong answers.

Pictures are chosen by rule, not by chance, and written into the page as JPEG data URIs. Pixels come from our own
arrays (`data/faces`, never pickled) and sheets; nothing that a stranger supplied is decoded here.
"""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from covpool.pipeline import artifacts

#: Faces are shown at most this large, in pixels, and this many in the sheet altogether (the page stays small).
FACE_PIXELS = 112
SHEET_FACES = 84
SHEET_COLUMNS = 12
SHEET_GAP = 3
WORST_PIXELS = (1000, 1400)
JPEG_QUALITY = 85

#: Examples of a run: two rows of the page, and one.
WRONG_SHOWN = 14
RIGHT_SHOWN = 7


class Faces:
    """The aligned faces of one split: an array [n, height, width, 3] of uint8 and its table, row by row."""

    def __init__(self, root, split):
        folder = Path(root) / artifacts.FACES
        self.rows = artifacts.read_csv(folder / f"{split}.csv", ("class", "source"))
        try:
            self.pixels = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise artifacts.ArtifactError(f"{split}.npy is missing: run `dvc repro normalise`.") from None
        except ValueError as error:
            raise artifacts.ArtifactError(f"{split}.npy is no array of faces ({error}).") from None
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or len(self.pixels) != len(self.rows):
            raise artifacts.ArtifactError(
                f"{split}.npy is {self.pixels.dtype} {self.pixels.shape}; wanted uint8 [{len(self.rows)}, height, "
                f"width, 3], a face for each row of {split}.csv. Run `dvc repro normalise`."
            )
        self.places = {row["source"]: place for place, row in enumerate(self.rows)}

    def face(self, place):
        return Image.fromarray(np.asarray(self.pixels[place]))


def face_strips(faces, classes):
    """A strip of faces for each class, evenly spaced over the split: `[(class, data URI or None, faces in all)]`."""
    columns = max(1, min(SHEET_COLUMNS, SHEET_FACES // max(1, len(classes))))
    strips = []
    for name in classes:
        places = [place for place, row in enumerate(faces.rows) if row["class"] == name]
        chosen = np.unique(np.linspace(0, len(places) - 1, columns).round().astype(int)) if places else []
        tiles = [_shrunk(faces.face(places[index])) for index in chosen]
        strips.append((name, data_uri(_row_of(tiles, columns)) if tiles else None, len(places)))
    return strips


def worst_sheet(root):
    """The page of the least certain faces that the normalisation made, as a data URI, or None where it made none."""
    path = Path(root) / artifacts.SHEETS / "worst.png"
    if not path.exists():
        return None
    with Image.open(path) as image:
        sheet = image.convert("RGB")
    sheet.thumbnail(WORST_PIXELS, Image.Resampling.LANCZOS)
    return data_uri(sheet)


def examples(predictions, faces):
    """Wrong answers, the most confident first, and the most confident right one of each class.

    Returns `(wrong, right)`, lists of dictionaries: `source`, `actual`, `predicted`, `confidence` and `actual_score`
    (shares), `image` (data URI). Answers of equal confidence stand in the order of their sources.
    """
    known = [row for row in predictions if row["source"] in faces.places]
    known.sort(key=lambda row: (-float(row["confidence"]), row["source"]))
    wrong = [row for row in known if row["actual"] != row["predicted"]][:WRONG_SHOWN]
    best = {}
    for row in known:
        if row["actual"] == row["predicted"]:
            best.setdefault(row["actual"], row)
    right = [best[name] for name in sorted(best)][:RIGHT_SHOWN]
    return [_example(row, faces) for row in wrong], [_example(row, faces) for row in right]


def _example(row, faces):
    return {
        "source": row["source"],
        "actual": row["actual"],
        "predicted": row["predicted"],
        "confidence": float(row["confidence"]),
        "actual_score": float(row[f"p_{row['actual']}"]),
        "image": data_uri(_shrunk(faces.face(faces.places[row["source"]]))),
    }


def _shrunk(image):
    image = image.copy()
    image.thumbnail((FACE_PIXELS, FACE_PIXELS), Image.Resampling.LANCZOS)
    return image


def _row_of(tiles, columns):
    width, height = tiles[0].size
    row = Image.new("RGB", (columns * (width + SHEET_GAP) - SHEET_GAP, height), "white")
    for place, tile in enumerate(tiles):
        row.paste(tile, (place * (width + SHEET_GAP), 0))
    return row.crop((0, 0, len(tiles) * (width + SHEET_GAP) - SHEET_GAP, height))


def data_uri(image):
    """A picture as a JPEG data URI; equal pixels give equal text."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
