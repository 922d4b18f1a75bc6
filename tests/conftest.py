"""Shared by the tests of the current Python; those of TensorFlow are in tests/tf and run under its interpreter."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_ignore_collect(collection_path, config):
    return True if collection_path == ROOT / "tests" / "tf" and not _has_tensorflow() else None


def _has_tensorflow():
    import importlib.util

    return importlib.util.find_spec("tensorflow") is not None


@pytest.fixture
def run_stage():
    """Runs a stage script of the current Python in a folder, as DVC would."""

    def run(name, folder):
        return subprocess.run(
            [str(ROOT / "stages" / "py"), str(ROOT / "stages" / (name + ".py"))],
            cwd=folder,
            capture_output=True,
            text=True,
        )

    return run
