"""Faces in the report: a sheet of the aligned ones, the least certain, and examples of right and wrong answers.

Pictures are chosen by rule, not at random, and written into the page as JPEG data URIs. Pixels come from the pipeline's
own arrays (`data/faces`, never pickled) and sheets; no file of the data set is decoded here.
"""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from covpool.pipeline import artifacts
from covpool.pipeline.arrays import read_face_array

#: Largest side of a face in pixels, and number of faces in the sheet (the page stays small).
FACE_PIXELS = 112
SHEET_FACES = 84
SHEET_COLUMNS = 12
SHEET_GAP = 3
WORST_PIXELS = (1000, 1400)
JPEG_QUALITY = 85

#: Examples of a split: two rows of the page, and one.
WRONG_SHOWN = 14
RIGHT_SHOWN = 7


class Faces:
    """The aligned faces of one split: an array [n, height, width, 3] of uint8, and its table with one row per face."""

    def __init__(self, root: Path | str, split: str) -> None:
        folder = Path(root) / artifacts.FACES
        self.rows = artifacts.read_csv(folder / f"{split}.csv", ("class", "source"))
        self.pixels = read_face_array(folder / f"{split}.npy", len(self.rows))
        self.places = {row["source"]: place for place, row in enumerate(self.rows)}

    def face(self, place: int) -> Image.Image:
        """Return the face of a row."""
        return Image.fromarray(np.asarray(self.pixels[place]))


def face_strips(faces: Faces, class_names: tuple[str, ...]) -> list[tuple[str, str | None, int]]:
    """Return a strip of faces per class, evenly spaced over the split: `[(class, data URI or None, all faces)]`."""
    columns = max(1, min(SHEET_COLUMNS, SHEET_FACES // max(1, len(class_names))))
    strips = []
    for name in class_names:
        places = [place for place, row in enumerate(faces.rows) if row["class"] == name]
        chosen = np.unique(np.linspace(0, len(places) - 1, columns).round().astype(int)) if places else []
        tiles = [_shrunk(faces.face(places[index])) for index in chosen]
        strips.append((name, data_uri(_row_of(tiles, columns)) if tiles else None, len(places)))
    return strips


def worst_sheet(root: Path | str) -> str | None:
    """Return the sheet of the least certain faces that the normalisation made, as a data URI; None if it made none."""
    path = Path(root) / artifacts.SHEETS / "worst.png"
    if not path.exists():
        return None
    with Image.open(path) as image:
        sheet = image.convert("RGB")
    sheet.thumbnail(WORST_PIXELS, Image.Resampling.LANCZOS)
    return data_uri(sheet)


def examples(predictions: pd.DataFrame, faces: Faces) -> tuple[list[dict], list[dict]]:
    """Choose wrong answers, the most confident first, and the most confident correct one of each class.

    Args:
        predictions: `predictions.csv` of a split.
        faces: The faces of that split.

    Returns:
        `(wrong, right)`, lists of dictionaries: `source`, `actual`, `predicted`, `confidence` and `actual_score`
        (shares), `image` (data URI). Answers of equal confidence are in the order of their sources.
    """
    known = predictions[predictions["source"].isin(faces.places)]
    known = known.sort_values(["confidence", "source"], ascending=[False, True])
    correct = known["actual"] == known["predicted"]
    wrong = known[~correct].head(WRONG_SHOWN)
    right = known[correct].drop_duplicates("actual").sort_values("actual").head(RIGHT_SHOWN)
    return tuple([_example(row, faces) for row in table.to_dict("records")] for table in (wrong, right))


def _example(row, faces):
    return {
        "source": row["source"],
        "actual": row["actual"],
        "predicted": row["predicted"],
        "confidence": row["confidence"],
        "actual_score": row[f"p_{row['actual']}"],
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


def data_uri(image: Image.Image) -> str:
    """Return a picture as a JPEG data URI. Equal pixels give equal text."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
