"""What can be said of `dataset.source` before anything runs; DVC's own messages about it name no parameter."""

import os
from pathlib import Path

from covpool import artifacts
from covpool.datasets.fetch import missing_source

#: Folders that stages write, and empty before they run again.
WRITTEN = (artifacts.RAW, artifacts.VALIDATED, artifacts.FACES, artifacts.SHEETS, artifacts.MODELS, artifacts.RUNS,
           artifacts.EVALUATION, artifacts.REPORTS)  # fmt: skip


def source_problem(settings):
    """What is wrong with the source of `params.Dataset`, seen from the project's folder; "" where nothing is."""
    source = Path(os.path.abspath(settings.source))
    wanted = "wanted a place of its own, apart from what the stages write"
    if Path.cwd().is_relative_to(source):
        return "dataset.source: {!r} holds the project itself: {}".format(settings.source, wanted)
    for folder in WRITTEN:
        if source.is_relative_to(folder.absolute()) or folder.absolute().is_relative_to(source):
            return "dataset.source: {!r} overlaps {}, which a stage writes: {}".format(settings.source, folder, wanted)
    return missing_source(settings)
