"""Shared by the tests of the current Python; those of tests/tf and tests/workers run under TensorFlow's interpreter."""

import signal

from tests.project import ROOT

# A shell starts what runs in its background with interrupts ignored, and programs hand that on: those that the tests
# start and interrupt must hear them.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path, config):
    elsewhere = collection_path in (ROOT / "tests" / "tf", ROOT / "tests" / "workers")
    return True if elsewhere and not _has_tensorflow() else None


def _has_tensorflow():
    import importlib.util

    return importlib.util.find_spec("tensorflow") is not None
