"""Takes what other runs left in `runs/` and `evaluation/` out of the report's sight.

DVC can't give a stage the files of a list of runs, so the report depends on the two folders as a whole. A run that is
no longer in `devices` leaves its files there: the report would depend on what it doesn't read, and another clone, that
never had them, would find it out of date. DVC removes such files no more than Git would, hence this.
"""

import shutil
from pathlib import Path

from covpool.pipeline import artifacts

LEFT_OUT = Path(".covpool/left-out")


def set_aside(root, devices):
    """Move all that is not of a run in `devices` from `runs/` and `evaluation/` to `.covpool/left-out/`.

    Nothing is lost: what a stage wrote DVC has in its cache, too, and brings back when `devices` names the run again.
    Returns the paths that were moved, relative to `root`; what was moved there earlier under the same name goes.
    """
    root, moved = Path(root), []
    for folder in (artifacts.RUNS, artifacts.EVALUATION):
        left = sorted((root / folder).iterdir()) if (root / folder).is_dir() else []
        for path in (path for path in left if path.name not in devices):
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
