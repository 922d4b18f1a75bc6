"""The working state of a run that is under way: what it takes to go on after the process was killed at any moment.

DVC deletes a stage's outputs before it runs the stage again, so the state lies outside of them, in
`.covpool/training/<run>-<key>/`, where the key is a hash of all that the result depends on (data, parameters, code,
TensorFlow build, threads). It is removed when the outputs are complete. The folder holds

    lock                      locked while a trainer works here; a second one is refused
    step-00000128/            every variable (weights, the optimiser's slots, averages, the step) and `progress.json`
    best-0007.{index,data}    the inference weights of the best epoch so far

A step's folder is written under another name, flushed to the disk and renamed, and the one before it is kept, so that
there is always a good one: a damaged one is noticed by the checkpoint's checksums and the one before is taken.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from pathlib import Path

import tensorflow.compat.v1 as tf

from covpool import artifacts

KEEP = 2


class StateError(RuntimeError):
    """The working state can't be used or written; the message says why and what to do."""


class WorkingState:
    """The state of one run. Use as a context: the folder is locked inside."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._lock = None

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(str(self.folder / "lock"), "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StateError(
                "another trainer is at work on this very run (it holds {}): wait for it, or end it. After a kill -9 of "
                "dvc its training goes on by itself: `pgrep -f stages/train.py` finds it.".format(self.folder / "lock")
            ) from None
        for leftover in self.folder.glob("*.writing"):
            _remove(leftover)
        return self

    def __exit__(self, *_):
        self._lock.close()

    def restore(self, session, saver):
        """Give all variables the newest good state, and return its progress; None where there is none."""
        for place in reversed(self._steps()):
            try:
                progress = artifacts.read_json(place / "progress.json")
                for name, size in progress["files"].items():
                    if (self.folder / name).stat().st_size != size:
                        raise StateError("{} is truncated".format(name))
                saver.restore(session, str(place / "variables"))
                return progress
            except (StateError, OSError, KeyError, artifacts.ArtifactError, tf.errors.OpError) as error:
                print("The state {} is damaged and passed over: {}".format(place, str(error).split("\n")[0]), flush=True)
                _remove(place)
        return None

    def save(self, session, saver, step, progress):
        """Write all variables and the progress (a JSON value; its `best` names files of ours that must be kept)."""
        place = self.folder / "step-{:08d}".format(step)
        writing = place.with_name(place.name + ".writing")
        with self._writes(writing):
            _remove(writing)
            writing.mkdir(parents=True)
            saver.save(session, str(writing / "variables"), write_meta_graph=False, write_state=False)
            kept = self.best_files(progress["best"]["epoch"]) if progress.get("best") else []
            files = {str(path.relative_to(self.folder)): path.stat().st_size for path in kept}
            for path in writing.iterdir():
                files[str(place.relative_to(self.folder) / path.name)] = path.stat().st_size
                _flush(path)
            artifacts.write_json(writing / "progress.json", dict(progress, files=files))
            _remove(place)
            os.rename(str(writing), str(place))
            _flush(self.folder)
        for old in self._steps()[:-KEEP]:
            _remove(old)
        self._drop_old_best()

    def save_best(self, session, write, epoch):
        """Write the inference weights of an epoch that is the best so far, by `write(session, prefix)`."""
        writing = self.folder / "best-{:04d}.writing".format(epoch)
        with self._writes(writing):
            _remove(writing)
            writing.mkdir()
            write(session, writing / "best-{:04d}".format(epoch))
            for path in writing.iterdir():
                _flush(path)
                os.replace(str(path), str(self.folder / path.name))
            _remove(writing)

    def best_files(self, epoch):
        return sorted(self.folder.glob("best-{:04d}.*".format(epoch)))

    def remove(self):
        """The outputs are complete: the state is not needed any more."""
        _remove(self.folder)

    def _steps(self):
        return sorted(path for path in self.folder.glob("step-*") if path.suffix != ".writing")

    def _drop_old_best(self):
        """Best weights that no kept state speaks of."""
        named = set()
        for place in self._steps():
            with contextlib.suppress(artifacts.ArtifactError, KeyError):
                named.update(artifacts.read_json(place / "progress.json")["files"])
        for path in self.folder.glob("best-*"):
            if path.name not in named:
                _remove(path)

    @contextlib.contextmanager
    def _writes(self, writing):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            _remove(writing)
            free = shutil.disk_usage(str(self.folder)).free
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            raise StateError(
                "the state could not be written to {}: {}. {} MB are free there; {}. The last good state is kept: "
                "run again to go on from it.".format(
                    self.folder, str(error).split("\n")[0], free // 2**20,
                    "make room" if full else "see to it that the folder can be written",
                )  # fmt: skip
            ) from None


def _flush(path):
    handle = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(str(path), ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
