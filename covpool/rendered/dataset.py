"""The rendered data set on disk: one folder per split and class, one PNG per picture.

A picture depends only on seed, identity, class and picture number. Workers take whole identities, so that the bytes do
not depend on the number of workers. Equal numbers give equal bytes on the same kind of processor; another instruction
set may round differently, and then single pixels differ.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from covpool.pipeline.cores import usable_cores
from covpool.pipeline.process_pool import ordered_map
from covpool.rendered.assets import FaceAssets, load_assets, load_saved
from covpool.rendered.expressions import CLASSES
from covpool.rendered.photograph import Photograph, Sitter
from covpool.rendered.scene import View, renderer

PNG_LEVEL = 6  # zlib's own default; part of the bytes
MIN_SIZE = 32
ASSETS, STOP = "assets.npz", "stop"  # names in the folder that a run shares with its workers


@dataclass(frozen=True)
class Picture:
    """One file of the data set.

    Attributes:
        path: Relative to the folder of the data set.
        split: train, val or test.
        label: Name of the expression.
        identity: Number of the person.
        landmarks: float64 [5, 2] in pixels, in the order of `Photograph.landmarks`.
    """

    path: str
    split: str
    label: str
    identity: int
    landmarks: np.ndarray


def render_dataset(
    target: Path,
    *,
    train: int,
    val: int,
    test: int = 0,
    pictures: int = 1,
    image_size: int = 176,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Picture]:
    """Render the data set into a folder.

    Args:
        target: Folder for the files `<split>/<class>/id0007_anger_0.png`. It is created if it is missing.
        train: Number of identities in train. Identities are numbered across the splits: first train, then val, test.
        val: Number of identities in val.
        test: Number of identities in test.
        pictures: Number of pictures of each identity in each class.
        image_size: Width and height in pixels.
        seed: Another seed gives other people.
        classes: The expressions to draw. A picture does not depend on which others are drawn.
        workers: Number of processes, by default one for each core that this process may use.
        progress: Called with the numbers of finished and of all pictures after every identity.

    Returns:
        One record per picture, ordered by identity, class and picture number; paths are relative to `target`.

    Raises:
        AssetError: `anny` or `mitsuba` is missing; the message says how to install it.
        ValueError: A count or size is out of range, or an expression is unknown.
    """
    for name in classes:
        _check_expression(name)
    _check_counts(train=train, val=val, test=test, pictures=pictures, image_size=image_size, seed=seed, workers=workers)
    splits = ["train"] * train + ["val"] * val + ["test"] * test
    processes = min(workers or usable_cores(), len(splits))
    records: list[Picture] = []
    shots = tuple(itertools.product(classes, range(pictures)))
    for done in _render_all(Path(target), splits, processes, seed=seed, shots=shots, size=image_size):
        records.extend(done)
        if progress is not None:
            progress(len(records), len(splits) * len(shots))
    return records


def render_face(
    identity: int,
    expression: str,
    *,
    picture: int = 0,
    image_size: int = 176,
    seed: int = 0,
    view: View | None = None,
) -> Photograph:
    """Render one picture in this process.

    Args:
        identity: Number of the person.
        expression: One of CLASSES.
        picture: Number of the picture among those of this identity and class.
        image_size: Width and height in pixels.
        seed: Seed of the data set.
        view: Replaces the drawn pose, scale and position; person, expression, light and background do not change. With
            None the picture is the one that `render_dataset` writes.

    Raises:
        AssetError: `anny` or `mitsuba` is missing; the message says how to install it.
        ValueError: A number is out of range, or the expression is unknown.
    """
    _check_expression(expression)
    _check_counts(identity=identity, picture=picture, image_size=image_size, seed=seed)
    return _sitter(None, seed, identity).photograph(expression, picture, image_size, view)


def _check_expression(name: str) -> None:
    if name not in CLASSES:
        raise ValueError(f"unknown expression: expected one of {', '.join(CLASSES)}, got {name!r}")


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        least = {"train": 1, "pictures": 1, "workers": 1, "image_size": MIN_SIZE}.get(name, 0)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _render_all(target: Path, splits: list[str], processes: int, **settings) -> Iterator[list[Picture]]:
    """Yield the pictures of one identity after the other, from this process or from several.

    After an error or an interrupt no further picture is started, here or in a worker.
    """
    renderer()
    work = enumerate(splits)
    if processes == 1:
        yield from ordered_map(functools.partial(_render_identity, None, target, **settings), work, 1)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _assets(None).save(folder / ASSETS)
        job = functools.partial(_render_identity, folder, target, **settings)
        # An identity takes seconds, so workers must be able to stop in the middle of one if the run has ended.
        yield from ordered_map(job, work, processes, when_abandoned=(folder / STOP).touch)


@functools.cache
def _assets(folder: Path | None) -> FaceAssets:
    """Return the parsed assets; a worker reads those that its parent process saved."""
    return load_assets() if folder is None else load_saved(folder / ASSETS)


@functools.lru_cache(maxsize=1)
def _sitter(folder: Path | None, seed: int, identity: int) -> Sitter:
    return Sitter(_assets(folder), seed, identity)


def _render_identity(
    folder: Path | None, target: Path, work: tuple[int, str], *, seed: int, shots: Sequence[tuple], size: int
) -> list[Picture]:
    """Write pictures of one identity: `work` is its number and split, `shots` pairs of expression and number."""
    identity, split = work
    if folder is not None:
        # Each core works on another identity.
        cv2.setNumThreads(1)
    sitter = _sitter(folder, seed, identity)
    records = []
    for label, picture in shots:
        if folder is not None and (folder / STOP).exists():
            raise InterruptedError("another worker failed or the run was interrupted")
        shot = sitter.photograph(label, picture, size)
        path = target / split / label / f"id{identity:04d}_{label}_{picture}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_png(path, shot.image)
        records.append(Picture(path.relative_to(target).as_posix(), split, label, identity, shot.landmarks))
    return records


def _write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 RGB [h, w, 3]; the file is complete or absent."""
    whole, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not whole:
        raise OSError(f"OpenCV could not encode {path.name} as PNG")
    partial = path.with_suffix(".partial")
    partial.write_bytes(data.tobytes())
    partial.replace(path)
