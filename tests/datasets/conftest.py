"""Pictures, and parameters of data sets, for the tests of this folder."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from covpool.config import load_params
from covpool.config.vocabulary import CANONICAL
from tests.datasets.web_server import get, server  # noqa: F401


@pytest.fixture(scope="session")
def settings():
    """Makes the `dataset` section of the parameters: `settings(source, kind, classes=..., limits=dict(...))`."""

    def make(source, kind="folder", classes=CANONICAL, **changes):
        dataset = load_params().dataset
        for name in ("split", "limits"):
            changes[name] = dataclasses.replace(getattr(dataset, name), **changes.get(name, {}))
        return dataclasses.replace(dataset, kind=kind, source=str(source), classes=tuple(classes), **changes)

    return make


@pytest.fixture(scope="session")
def picture():
    """Writes a small picture of noise: `picture(path, seed)`; returns its bytes."""

    def write(path, seed=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 15, 3), np.uint8)).save(path)
        return path.read_bytes()

    return write


@pytest.fixture
def sfew(tmp_path, picture):
    """SFEW_100's layout, with the file names of the set."""
    number = 0
    for split in ("Train", "val"):
        for name in ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"):
            for index in range(2):
                number += 1
                picture(tmp_path / "SFEW_100" / split / name / f"Film_{index:03d}.png", number)
    return tmp_path / "SFEW_100"
