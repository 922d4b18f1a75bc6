"""What can be said of `dataset.source` before anything runs; DVC's own messages about it name no parameter."""

import os
from pathlib import Path

from covpool.datasets.places import wanted_layout
from covpool.pipeline import artifacts

#: Folders that stages write, and empty before they run again.
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


def source_problem(settings):
    """What is wrong with the source of `config.Dataset`, seen from the project's folder; "" where nothing is."""
    source = Path(os.path.abspath(settings.source))
    wanted = "expected a place outside of what the stages write"
    if Path.cwd().is_relative_to(source):
        return f"dataset.source: {settings.source!r} holds the project itself: {wanted}"
    for folder in WRITTEN:
        if source.is_relative_to(folder.absolute()) or folder.absolute().is_relative_to(source):
            return f"dataset.source: {settings.source!r} overlaps {folder}, which a stage writes: {wanted}"
    return missing_source(settings)


def missing_source(settings) -> str:
    """What is wrong where the local source of `config.Dataset` is not there, and what to do; '' where it is."""
    path = Path(settings.source)
    if path.exists():
        return ""
    advice = "it is part of the project; `git checkout` it" if settings.kind == "rendered" else ""
    return f"dataset.source: {path} does not exist: {advice or wanted_layout(settings.kind)}"
