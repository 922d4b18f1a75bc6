"""From a picture of a request to its answer: the rows of `covpool predict`, and what the page shows beside them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from covpool.images import opener
from covpool.predict import Face, Predictor
from covpool.predict.output import columns
from covpool.predict.sources import Frame
from covpool.predict.stream import Result, rows
from covpool.serve import matrix_pictures
from covpool.serve.limits import MAX_PIXELS


@dataclass(frozen=True)
class Upload:
    """A picture of a request: the name that its sender gave it, and its bytes."""

    name: str
    content: bytes


def describe(predictor: Predictor) -> dict:
    """What the page must know about the model: `name`, `classes`, `has_matrices`, `min_face`, `columns`."""
    path = predictor.model.path
    return {
        "name": f"{path.absolute().parent.name}/{path.name}",
        "classes": list(predictor.class_names),
        "has_matrices": predictor.model.has_matrices,
        "min_face": predictor.min_face,
        "columns": columns(predictor.class_names),
    }


def answer(predictor: Predictor, upload: Upload, explain: bool, detail: bool) -> dict:
    """Read one picture of a request.

    Args:
        predictor: the network.
        upload: the picture.
        explain: also give `explanation` of each face, if the network has a covariance matrix.
        detail: also give `points` and `detail` of each face: its crop and its matrices as pictures.

    Returns:
        A JSON value: `source`; `width` and `height` of the picture, null if it can't be read; `rows`, as
        `covpool predict --out FILE.json` writes them.
    """
    frame = Frame(upload.name)
    try:
        check_pixels(upload)
        pixels = opener.decode_picture(upload.content, upload.name)
    except opener.PictureError as error:
        unread = Result(frame, None, [], reason=error.reason)
        return {
            "source": upload.name,
            "width": None,
            "height": None,
            "rows": list(rows(unread, predictor.class_names)),
        }
    has_matrices = predictor.model.has_matrices
    faces = predictor.predict(pixels, explain=explain and has_matrices, matrices=detail and has_matrices)
    scores = [np.array(list(face.probabilities.values())) for face in faces]
    found = list(rows(Result(frame, None, faces, [None] * len(faces), scores), predictor.class_names))
    if detail:
        for row, face in zip(found, faces):
            row.update(_detail(face))
    return {"source": upload.name, "width": pixels.shape[1], "height": pixels.shape[0], "rows": found}


def check_pixels(upload: Upload) -> None:
    """Raise PictureError if a picture has too many pixels for a request; reads its header only."""
    try:
        with Image.open(io.BytesIO(upload.content), formats=opener.FORMATS) as image:
            width, height = image.size
    except Exception:
        # The opener reads it again, and says what is wrong with it.
        return
    if width * height > MAX_PIXELS:
        raise opener.PictureError(
            upload.name, f"expected at most {MAX_PIXELS} pixels, got {width}x{height}. Make the picture smaller."
        )


def _detail(face: Face) -> dict:
    detail = {"crop": data_uri(face.crop)}
    if face.bimap is not None:
        before, after = matrix_pictures.before_and_after(face.bimap.astype(float), face.logeig.astype(float))
        detail.update(covariance=data_uri(before), logarithm=data_uri(after))
    points = None if face.points is None else np.round(face.points.astype(float), 2).tolist()
    return {"points": points, "detail": detail}


def data_uri(pixels: np.ndarray) -> str:
    """uint8 [h, w, 3] as a `data:` address that holds it as a PNG."""
    stream = io.BytesIO()
    # The pictures are small and go to the same computer: compressing them more costs time and saves nothing.
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
