"""The stage `normalise`: from a validated manifest and its pictures to arrays of aligned faces.

All cores work on the pictures, and results are written one at a time in the manifest's order. So the output does not
depend on the number of workers, and memory does not grow with the number of pictures. Detections are kept in a cache
(covpool.faces.cache), so that a second run detects only new pictures.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TextIO

import cv2
import numpy as np

from covpool.config import vocabulary
from covpool.faces import dask_workers, detectors, sheets
from covpool.faces.crops import Crop, NormaliseError, Settings, normalise_picture
from covpool.pipeline import artifacts, process_pool
from covpool.pipeline.cores import usable_cores

#: The outcomes that are counted. `aligned`: the picture was taken as an aligned face, none was searched for.
OUTCOMES = ("found", "aligned", "fallback", "dropped")

CLASSES_FILE = "classes.json"

_COLUMNS = ("path", "split", "class", "sha256", "status")

_SHA256 = re.compile(r"[0-9a-f]{64}")


def normalise_dataset(
    manifest: Path,
    images: Path,
    target: Path,
    sheets_folder: Path,
    *,
    classes: Sequence[str],
    detector: str = "mtcnn",
    size: int = 100,
    margin: int = 6,
    min_score: float = 0.9,
    fallback: str = "center",
    cache: Path | None = None,
    workers: int | None = None,
    scheduler: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Write the aligned faces of all pictures with status `ok`.

    For each split that has pictures, `target` gets `<split>.npy` (uint8 [n, side, side, 3] RGB, side = size + 2 margin)
    and `<split>.csv` (artifacts.FACES_COLUMNS, one row per face, in the order of the array and of the manifest), and
    at the end `classes.json`. Landmarks and boxes are in pixels of the upright picture.

    Args:
        manifest: CSV with at least the columns path, split, class, sha256 and status.
        images: folder that the manifest's paths are relative to.
        target: folder for arrays and tables.
        sheets_folder: folder for contact sheets, one per class and `worst.png`.
        classes: names of the classes; a class's label is its position.
        detector: one of DETECTORS.
        size: side of the frame in pixels.
        margin: pixels around the frame, on each side.
        min_score: faces with a lower score count as not found; 0 to 1.
        fallback: what to do with a picture without a face: `center` takes the largest central square, `drop` leaves the
            picture out, `fail` raises an error.
        cache: folder of the detection cache; None: no cache.
        workers: number of processes; None: one per core.
        scheduler: address of a Dask scheduler, whose workers do the work instead; "": this machine.
        progress: called with (done, total) after each picture.

    Returns:
        {split: {class: {found, aligned, fallback, dropped}}}, with the sums under `all`.

    Raises:
        NormaliseError, PictureError, DetectorMissing, WorkerDied: no complete file is left in `target`.
    """
    settings = Settings(images, detector, size, margin, min_score, fallback, cache)
    workers = usable_cores() if workers is None else workers
    if workers < 1:
        raise NormaliseError(f"workers must be at least 1, got {workers}")
    for name in classes:
        fault = vocabulary.name_fault(name)
        if fault:
            raise NormaliseError(f"{fault}: rename this class")
    if detector != "none":
        detectors.shared(detector)  # A missing package is an error before any work is done.
    sizes = _count(manifest, classes)
    _clear(target)
    counts = {split: {name: Counter() for name in classes} for split in sizes}
    examples = sheets.Examples()
    with contextlib.ExitStack() as stack:
        stack.callback(cv2.setNumThreads, cv2.getNumThreads())
        writers = {split: stack.enter_context(_split_writer(target, split, settings.side)) for split in sizes}
        rows, work = itertools.tee(_rows(manifest))
        if scheduler:
            crops = dask_workers.ordered_crops(settings, work, scheduler)
        else:
            crops = process_pool.ordered_map(functools.partial(normalise_picture, settings), work, workers)
        stack.enter_context(contextlib.closing(crops))
        for done, (row, crop) in enumerate(zip(rows, crops, strict=True), 1):
            split, name = row["split"], row["class"]
            counts[split][name][_outcome(crop)] += 1
            examples.add(row, crop)
            if crop.image is not None:
                writers[split].add(crop.image, _table_row(row, classes.index(name), crop))
            if progress is not None:
                progress(done, sum(sizes.values()))
        _refuse_empty(writers)
    examples.draw(sheets_folder, images)
    artifacts.write_json(target / CLASSES_FILE, list(classes))
    return _metrics(counts)


def _rows(manifest: Path) -> Iterator[dict[str, str]]:
    """Yield the manifest's usable rows, one at a time."""
    with open(manifest, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = [column for column in _COLUMNS if column not in (reader.fieldnames or [])]
        if missing:
            raise NormaliseError(f"{manifest} lacks the column {', '.join(missing)}. Run `dvc repro -f validate`.")
        for row in reader:
            if row["status"] == "ok":
                yield {column: row[column] for column in _COLUMNS}


def _count(manifest: Path, classes: Sequence[str]) -> dict[str, int]:
    """Check every usable row of the manifest; return how many each split has, in the order of artifacts.SPLITS."""
    counted: Counter[str] = Counter()
    for row in _rows(manifest):
        where = f"{manifest}: {row['path']}"
        if row["split"] not in artifacts.SPLITS:
            raise NormaliseError(f"{where}: split: expected one of {', '.join(artifacts.SPLITS)}, got {row['split']!r}")
        if row["class"] not in classes:
            raise NormaliseError(f"{where}: class: expected one of {', '.join(classes)}, got {row['class']!r}")
        if not _SHA256.fullmatch(row["sha256"]):
            raise NormaliseError(f"{where}: sha256: expected 64 hexadecimal digits, got {row['sha256']!r}")
        path = PurePosixPath(row["path"])
        if path.is_absolute() or ".." in path.parts:
            raise NormaliseError(
                f"{where}: path: expected a path below the folder of the pictures, got {row['path']!r}"
            )
        counted[row["split"]] += 1
    if not counted:
        raise NormaliseError(
            f"{manifest}: expected at least one picture with status ok, got none. The column `reason` says why."
        )
    return {split: counted[split] for split in artifacts.SPLITS if counted[split]}


def _clear(target: Path) -> None:
    """Remove the files of an earlier run, the class list first: without it the folder counts as incomplete."""
    stale = [CLASSES_FILE, *(split + suffix for split in artifacts.SPLITS for suffix in (".npy", ".csv"))]
    for name in stale:
        (target / name).unlink(missing_ok=True)
        # Files that a killed run was writing.
        for unfinished in target.glob(f".{name}.*"):
            unfinished.unlink()


def _outcome(crop: Crop) -> str:
    return {"none": "aligned", "center": "fallback", "drop": "dropped"}.get(crop.method, "found")


def _metrics(counts: dict[str, dict[str, Counter]]) -> dict:
    return {
        split: {
            name: {outcome: counter[outcome] for outcome in OUTCOMES}
            for name, counter in {**by_class, "all": sum(by_class.values(), Counter())}.items()
        }
        for split, by_class in counts.items()
    }


def describe(outcomes: dict[str, int]) -> str:
    """Return the counts of one class, or their sum, in words.

    Args:
        outcomes: {found, aligned, fallback, dropped}, as `normalise_dataset` returns them.
    """
    if outcomes["aligned"]:
        return f"{outcomes['aligned']} pictures taken as aligned faces without a search (normalise.detector: none)"
    found, fallback, dropped = (outcomes[key] for key in ("found", "fallback", "dropped"))
    return f"{found} faces found, {fallback} not found (centre taken), {dropped} dropped"


def _refuse_empty(writers: dict[str, _SplitWriter]) -> None:
    for split, writer in writers.items():
        if not writer.count:
            raise NormaliseError(
                f"no face was found in any picture of split {split}. Lower normalise.min_score, or set "
                "normalise.fallback to center."
            )


def _table_row(row: dict[str, str], label: int, crop: Crop) -> list[str]:
    face = crop.face
    score = "" if face is None else f"{face.score:.{detectors.SCORE_DECIMALS}f}"
    # Of a face whose score is too low the table has the score only: its landmarks were not used.
    used = [] if face is None or crop.method == "center" else face.landmarks.ravel()
    places = [f"{value:.{detectors.PIXEL_DECIMALS}f}" for value in (*crop.box, *used)]
    places += [""] * (4 + len(artifacts.LANDMARK_COLUMNS) - len(places))
    return [str(label), row["class"], row["path"], row["sha256"], crop.method, score, *places]


class _SplitWriter:
    """Appends crops to an array file and rows to a table; neither is kept in memory."""

    def __init__(self, array: BinaryIO, table: TextIO, side: int) -> None:
        self.count = 0
        self._array, self._side = array, side
        self._table = table
        table.write(artifacts.csv_line(artifacts.FACES_COLUMNS))
        self._write_header()
        self._start = array.tell()

    def add(self, crop: np.ndarray, row: list[str]) -> None:
        self._array.write(np.ascontiguousarray(crop).data)
        self._table.write(artifacts.csv_line(row))
        self.count += 1

    def finish(self) -> None:
        """Write the number of crops into the header, which NumPy pads so that there is room for it."""
        self._array.seek(0)
        self._write_header()
        if self._array.tell() != self._start:
            raise RuntimeError(f"the array's header for {self.count} crops is longer than the one for 0 crops")

    def _write_header(self) -> None:
        shape = (self.count, self._side, self._side, 3)
        description = np.lib.format.dtype_to_descr(np.dtype(np.uint8))
        header = {"descr": description, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._array, header)


@contextlib.contextmanager
def _split_writer(target: Path, split: str, side: int) -> Iterator[_SplitWriter]:
    """Open a split's array and table. Both get their names only if the block ends without an error."""
    with artifacts.atomic_file(target / f"{split}.npy", "wb") as array:
        with artifacts.atomic_file(target / f"{split}.csv") as table:
            writer = _SplitWriter(array, table, side)
            yield writer
            writer.finish()
