"""What the tests of the faces share: a real photo, a detector, and small data sets."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from covpool.faces import Face, create, detectors, geometry

CLASSES = ("anger", "happiness", "surprise")

MANIFEST = "path,split,class,sha256,source,width,height,mode,status,reason".split(",")


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A real photo with one face, uint8 [220, 220, 3] RGB."""
    return np.ascontiguousarray(data.astronaut()[20:240, 110:330])


@pytest.fixture(scope="session")
def mtcnn() -> detectors.Detector:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield create("mtcnn")
    cv2.setNumThreads(threads)


@pytest.fixture
def noise() -> Callable[[int], np.ndarray]:
    """Pictures without a face; different seeds give different ones."""
    return lambda seed: np.random.default_rng(seed).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@dataclass
class Dataset:
    """A folder of pictures and its manifest."""

    root: Path
    rows: list[dict] = field(default_factory=list)

    @property
    def images(self) -> Path:
        return self.root / "raw"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.csv"

    def add(self, path: str, image: np.ndarray | bytes, status: str = "ok") -> None:
        """Add a picture (an array is saved as PNG) whose split and class its path names."""
        target = self.images / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes):
            target.write_bytes(image)
        else:
            Image.fromarray(image).save(target, format="PNG")
        split, name = path.split("/")[:2]
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        values = (path, split, name, digest, "test", "", "", "", status, "")
        self.rows.append(dict(zip(MANIFEST, values, strict=True)))
        self.write()

    def write(self) -> None:
        with open(self.manifest, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, MANIFEST, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


@pytest.fixture
def faces(dataset: Dataset, astronaut: np.ndarray) -> Dataset:
    """Twelve pictures of a face, tilted and lit differently, in two splits and three classes."""
    for number in range(12):
        matrix = cv2.getRotationMatrix2D((110, 110), 5 * number - 25, 0.7)
        picture = cv2.warpAffine(astronaut, matrix, (176, 160), borderMode=cv2.BORDER_REPLICATE)
        picture = (picture * (0.6 + 0.03 * number)).astype(np.uint8)
        split = "train" if number % 4 else "val"
        dataset.add(f"{split}/{CLASSES[number % 3]}/{number:02d}.png", picture)
    return dataset


class ScriptedDetector:
    """Finds a face with the score that the red value of the first pixel says (0: none), and counts its work."""

    def __init__(self) -> None:
        self.settings = {"detector": "scripted"}
        self.looked = 0

    def propose(self, image: np.ndarray) -> list[Face]:
        self.looked += 1
        height, width = image.shape[:2]
        score = image[0, 0, 0] / 255
        landmarks = geometry.MEAN_FACE * width / 4 + (width / 2, height / 3)
        box = (width / 4, height / 4, width / 2, height / 2)
        return [Face(box, landmarks, score)] if score else []

    def refine(self, image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, float] | None:
        score = image[0, 0, 0] / 255
        return (landmarks, score) if score else None


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedDetector:
    """Stands in for mtcnn (in this process: use workers=1)."""
    detector = ScriptedDetector()
    monkeypatch.setattr(detectors, "shared", lambda name: detector)
    return detector


@pytest.fixture
def scored() -> Callable[[int], np.ndarray]:
    """Pictures in which the scripted detector finds a face with that score out of 255."""

    def picture(score: int) -> np.ndarray:
        image = np.random.default_rng(score).integers(0, 256, (130, 130, 3), dtype=np.uint8)
        image[:9, :9] = score
        return image

    return picture
