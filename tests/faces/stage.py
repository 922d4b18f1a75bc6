"""Runs the stage's work on a small data set, and reads what it wrote."""

from __future__ import annotations

from pathlib import Path

from covpool.faces import normalise_dataset
from covpool.pipeline import artifacts

CLASSES = ("anger", "happiness", "surprise")


def normalise(dataset, name: str = "faces", **options):
    """Normalise into a fresh folder; return (folder, counts)."""
    folder = dataset.root / name
    sheets = dataset.root / f"{name}_sheets"
    options = {"classes": CLASSES, "workers": 1, "size": 40, "margin": 3, **options}
    return folder, normalise_dataset(dataset.manifest, dataset.images, folder, sheets, **options)


def table(folder: Path, split: str) -> list[dict]:
    return artifacts.read_csv(folder / f"{split}.csv", artifacts.FACES_COLUMNS)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
