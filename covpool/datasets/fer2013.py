"""Reads FER2013: a table in which each row is a picture, written as numbers."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image

from covpool.config import Dataset, vocabulary
from covpool.datasets import names
from covpool.datasets.callbacks import Say
from covpool.datasets.errors import DatasetError
from covpool.datasets.places import Pictures, Place, check_splits, expected_layout, report_skipped
from covpool.datasets.sources import Source

#: The labels of FER2013 (reference: the description that comes with it).
FER2013_LABELS = dict(enumerate(("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")))
FER2013_SPLITS = {"training": "train", "publictest": "val", "privatetest": "test"}
FER2013_SIDE = 48
#: Most bytes of a line. A row has 2,304 numbers of up to three digits.
FER2013_LINE = 1 << 15


def pictures_of(source: Source, settings: Dataset, say: Say) -> Pictures:
    """Read the pictures of FER2013; each becomes a PNG that is named by its row.

    Args:
        source: The source of the table.
        settings: The section `dataset` of params.yaml.
        say: Called with a line of text on skipped files.

    Yields:
        The place of each picture, and its PNG as a stream.

    Raises:
        DatasetError: The table is missing or has another form; the message names the line.
    """
    tables = [name for name in source.files() if name.casefold().endswith(".csv") and not names.is_clutter(name)]
    tables = [name for name in tables if PurePosixPath(name).name.casefold() == "fer2013.csv"] or tables
    if len(tables) != 1:
        raise DatasetError(f"{source.path} has {' and '.join(tables) or 'no table'}: {expected_layout('fer2013')}")
    report_skipped(say, set(source.files()) - set(tables))
    for name, stream in source.read_files(set(tables)):
        rows = _short_lines(io.BufferedReader(stream) if isinstance(stream, io.RawIOBase) else stream, name)
        header = next(rows, (1, []))[1]
        columns = [column.strip().casefold() for column in header]
        if not {"emotion", "pixels", "usage"} <= set(columns) or len(set(columns)) < len(columns):
            raise DatasetError(f"{source.path}: {name} has the columns {header}: {expected_layout('fer2013')}")
        splits = set()
        for line, row in rows:
            if row:
                if len(row) != len(columns):
                    raise DatasetError(f"{name}:{line}: expected {len(columns)} cells, got {len(row)}")
                place, data = _fer2013_picture(name, line, dict(zip(columns, row)), settings.classes)
                splits.add(place.split)
                yield place, data
        check_splits(source, settings, splits)


def _short_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each line; raise DatasetError for a line longer than FER2013_LINE."""
    for number, line in enumerate(iter(lambda: stream.readline(FER2013_LINE), b""), 1):
        if len(line) == FER2013_LINE:
            raise DatasetError(f"{name}:{number} is longer than {FER2013_LINE} bytes: {expected_layout('fer2013')}")
        try:
            yield number, next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")], strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{name}:{number}: {error}") from None


def _fer2013_picture(name: str, line: int, row: dict[str, str], class_names: Sequence[str]) -> tuple[Place, BinaryIO]:
    """Return place and PNG of the picture in one row."""
    where = f"{name}:{line}"
    emotion, usage = row["emotion"].strip(), row["usage"].strip()
    if not re.fullmatch("[0-6]", emotion):
        raise DatasetError(f"{where}: expected an emotion from 0 to 6, got {emotion[:80]!r}")
    if usage.casefold() not in FER2013_SPLITS:
        raise DatasetError(f"{where}: expected the Usage Training, PublicTest or PrivateTest, got {usage[:80]!r}")
    numbers = row["pixels"].split()
    wrong = next((number for number in numbers if not re.fullmatch("[0-9]{1,3}", number) or int(number) > 255), None)
    if wrong is not None:
        raise DatasetError(f"{where}: expected pixels from 0 to 255, got {wrong[:80]!r}")
    if len(numbers) != FER2013_SIDE**2:
        raise DatasetError(f"{where}: expected {FER2013_SIDE**2} pixels, got {len(numbers)}")
    try:
        label = vocabulary.class_named(FER2013_LABELS[int(emotion)], class_names)
    except vocabulary.UnknownClass as error:
        raise DatasetError(f"{where}: {error}") from None
    pixels, split = np.array(numbers, np.uint8), FER2013_SPLITS[usage.casefold()]
    data = io.BytesIO()
    Image.fromarray(pixels.reshape(FER2013_SIDE, FER2013_SIDE)).save(data, "PNG")
    data.seek(0)
    return Place(where, split, label, file=f"fer2013_{line:05d}.png"), data
