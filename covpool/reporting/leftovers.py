"""Moves what other runs left in `runs/`, `evaluation/` and `exports/` out of the report's dependencies.

DVC can't make a stage depend on the files of a list of runs, so the report depends on the three folders as a whole. A
run that is no longer in `devices` leaves its files there. The report would then depend on files that it does not read,
and another clone, which never had them, would find it out of date. DVC does not remove such files.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from covpool.pipeline import artifacts

LEFT_OUT = Path(".covpool/left-out")


def set_aside(root: Path | str, devices: Sequence[str]) -> list[Path]:
    """Move everything to `.covpool/left-out/` that belongs to no run in `devices`.

    Nothing is lost: DVC's cache also has what a stage wrote, and restores it when `devices` names the run again.

    Args:
        root: The project's folder.
        devices: Names of the runs to keep.

    Returns:
        The paths that were moved, relative to `root`. They replace older files of the same name.
    """
    root, moved = Path(root), []
    for folder in (artifacts.RUNS, artifacts.EVALUATION, artifacts.EXPORTS):
        left = sorted((root / folder).iterdir()) if (root / folder).is_dir() else []
        for path in (path for path in left if path.name.removesuffix(".json") not in devices):
            target = root / LEFT_OUT / folder / path.name
            _remove(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            moved.append(folder / path.name)
    return moved


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
