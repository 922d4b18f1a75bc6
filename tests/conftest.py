"""Shared by the tests of the current Python; those of TensorFlow are in tests/tf and run under its interpreter."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def pytest_ignore_collect(collection_path, config):
    return True if collection_path == ROOT / "tests" / "tf" and not _has_tensorflow() else None


def _has_tensorflow():
    import importlib.util

    return importlib.util.find_spec("tensorflow") is not None
