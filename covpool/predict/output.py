"""Writes results as they come: CSV, JSON lines, one JSON array, or a table on a terminal.

A file is readable at any time: a line that could not be written whole, on a full disk for example, is taken back.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TextIO

from covpool.pipeline.artifacts import csv_line
from covpool.predict.predictor import InputError

SUFFIXES = (".csv", ".jsonl", ".json")
#: Digits of probabilities and scores; coordinates have the detector's.
DIGITS = 6
_TABLE = (("source", 36), ("frame", 6), ("face", 5), ("expression", 12), ("score", 6), ("box", 22))


def columns(class_names: tuple[str, ...]) -> list[str]:
    """Columns of the CSV."""
    fixed = ["source", "frame", "time", "face", "track", "x", "y", "width", "height", "face_score", "expression"]
    scores = [f"p_{name}" for name in class_names] + [f"raw_p_{name}" for name in class_names]
    return [*fixed, *scores, "reason"]


class RowFile:
    """A file of rows by its ending. Use as a context."""

    def __init__(self, path: Path, class_names: tuple[str, ...]) -> None:
        if path.suffix not in SUFFIXES:
            raise InputError(f"--out: expected a file that ends in {', '.join(SUFFIXES)}, got {path}")
        self._kind, self._columns = path.suffix, columns(class_names)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that a line either is in the file or raises an error here.
        self._stream = open(path, "wb", buffering=0)
        self._empty = True
        if self._kind == ".csv":
            self._append(csv_line(self._columns), 0)
        elif self._kind == ".json":
            self._append("[\n]\n", 0)

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, row: dict) -> None:
        """Append a row. Raises OSError if it can't be written; then the file is as it was before."""
        if self._kind == ".csv":
            self._append(csv_line([_cell(row.get(name)) for name in self._columns]), 0)
        elif self._kind == ".jsonl":
            self._append(json.dumps(row, ensure_ascii=False) + "\n", 0)
        else:
            # The closing bracket is written again after each row: the array is complete at any time.
            text = ("" if self._empty else ",\n") + json.dumps(row, ensure_ascii=False)
            self._append(text + "\n]\n", len(b"]\n") if self._empty else len(b"\n]\n"))
        self._empty = False

    def _append(self, text: str, overwritten: int) -> None:
        end = self._stream.seek(0, 2)
        place = end - overwritten
        tail = b""
        if overwritten:
            tail = {2: b"]\n", 3: b"\n]\n"}[overwritten]
        content = text.encode("utf-8", "surrogateescape")
        self._stream.seek(place)
        try:
            done = 0
            while done < len(content):
                done += self._stream.write(content[done:])
        except OSError:
            with contextlib.suppress(OSError):
                self._stream.seek(place)
                self._stream.truncate(place)
                self._stream.write(tail)
            raise


class RowStream:
    """Rows on standard output: a table on a terminal, CSV in a pipe."""

    def __init__(self, stream: TextIO, class_names: tuple[str, ...]) -> None:
        self._stream, self._columns = stream, columns(class_names)
        self._table = stream.isatty()
        if self._table:
            self._line({name: name for name, _ in _TABLE})
        else:
            stream.write(csv_line(self._columns))

    def __enter__(self) -> RowStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def write(self, row: dict) -> None:
        """Write a row."""
        if not self._table:
            self._stream.write(csv_line([_cell(row.get(name)) for name in self._columns]))
            return
        cells = {"source": row["source"], "frame": _cell(row.get("frame")), "face": _cell(row.get("face"))}
        if row.get("expression"):
            cells["expression"] = row["expression"]
            cells["score"] = f"{row['p_' + row['expression']]:.2f}"
            cells["box"] = " ".join(f"{row[name]:.0f}" for name in ("x", "y", "width", "height"))
        else:
            cells["expression"] = row.get("reason", "")
        self._line(cells)

    def _line(self, cells: dict) -> None:
        parts = []
        for name, width in _TABLE:
            text = cells.get(name, "")
            if len(text) > width and name == "source":
                text = "..." + text[3 - width :]
            parts.append(text.ljust(width))
        self._stream.write(" ".join(parts).rstrip() + "\n")


def open_rows(path: Path | None, class_names: tuple[str, ...]) -> RowFile | RowStream:
    """Where rows go: a file, or standard output if path is None."""
    return RowStream(sys.stdout, class_names) if path is None else RowFile(path, class_names)


def _cell(value: object) -> str:
    return "" if value is None else str(value)
