"""Checks `dataset.source` before anything runs, because DVC's own messages do not name the parameter."""

import os
from pathlib import Path

from covpool.config import Dataset
from covpool.datasets.places import expected_layout
from covpool.pipeline import artifacts

#: Folders that stages write. DVC deletes their contents before it runs a stage again.
WRITTEN = (
    artifacts.RAW,
    artifacts.VALIDATED,
    artifacts.FACES,
    artifacts.SHEETS,
    artifacts.MODELS,
    artifacts.RUNS,
    artifacts.EVALUATION,
    artifacts.REPORTS,
)


def source_problem(settings: Dataset) -> str:
    """Return what is wrong with the local source, seen from the folder of the project, or "" if it is usable."""
    source = Path(os.path.abspath(settings.source))
    expected = "expected a folder or file outside of the folders that the stages write"
    if Path.cwd().is_relative_to(source):
        return f"dataset.source: {settings.source!r} holds the project itself: {expected}"
    for folder in WRITTEN:
        if source.is_relative_to(folder.absolute()) or folder.absolute().is_relative_to(source):
            return f"dataset.source: {settings.source!r} overlaps {folder}, which a stage writes: {expected}"
    return missing_source(settings)


def missing_source(settings: Dataset) -> str:
    """Return what to do if the local source does not exist, or '' if it exists."""
    path = Path(settings.source)
    if path.exists():
        return ""
    advice = "it is part of the project; restore it with `git checkout`" if settings.kind == "rendered" else ""
    return f"dataset.source: {path} does not exist: {advice or expected_layout(settings.kind)}"
