"""The working state of a run that is under way: what it takes to go on after the process was killed at any moment.

DVC deletes a stage's outputs before it runs the stage again, so the state lies outside of them, in
`.covpool/training/<run>-<key>/`, where the key is a hash of all that the result depends on (data, parameters, code,
TensorFlow build, threads). It is removed when the outputs are complete. The folder holds

    lock                      locked while a trainer works here; a second one is refused
    step-00000128/            every variable (weights, the optimiser's slots, averages, the step) and `progress.json`
    best-0007.{index,data}    the inference weights of the best epoch so far

A step's folder is written under another name, flushed to the disk and renamed, and the one before it is kept, so that
there is always a good one: a damaged one is noticed by sizes and the checkpoint's checksums, and the one before is
taken.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from pathlib import Path

import tensorflow.compat.v1 as tf

from covpool.pipeline import artifacts

KEEP = 2


class StateError(RuntimeError):
    """The working state or the outputs can't be used or written; the message says why and what to do."""


@contextlib.contextmanager
def only_writer(path):
    """Hold the lock file `path` in the block; StateError where another process has it."""
    with writing(path.parent, "a lock file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = _locked(path)
        while stream is None:
            stream = _locked(path)
    with stream:
        yield


def _locked(path):
    """The lock file, open and locked; None where the process that had it took it away in between."""
    stream = open(str(path), "w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), os.stat(str(path))):
                return stream
    except BlockingIOError:
        stream.close()
        raise StateError(
            f"another trainer is at work on this very run (it holds {path}): wait for it, or end it. After a kill -9 of "
            "dvc its training goes on by itself: `pgrep -f stages/train.py` finds it."
        ) from None
    stream.close()
    return None


@contextlib.contextmanager
def writing(folder, what):
    """Turns the errors of writing `what` below `folder` into a StateError that says what to do."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        raise StateError(
            "{} could not be written to {}: {}. {} MB are free there; {}. The last good state is kept: run again to "
            "go on from it.".format(
                what,
                folder,
                str(error).split("\n")[0],
                shutil.disk_usage(str(there)).free // 2**20,
                "make room" if full else "see to it that the folder can be written",
            )
        ) from None


class WorkingState:
    """The state of one run in one folder. Use as a context: the folder is locked inside."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        self._stack.enter_context(only_writer(self.folder / "lock"))
        for leftover in self.folder.glob("*.writing"):
            _remove(leftover)
        return self

    def __exit__(self, *_):
        self._stack.close()

    def restore(self, session, saver):
        """Give all variables the newest good state, and return its progress; None where there is none.

        Damaged states are told and removed.
        """
        for place in reversed(self._steps()):
            try:
                progress = artifacts.read_json(place / "progress.json")
                for name, size in progress["files"].items():
                    if (self.folder / name).stat().st_size != size:
                        raise StateError(f"{name} is truncated")
                saver.restore(session, str(place / "variables"))
                return progress
            # TensorFlow's builds tell a damaged checkpoint in different ways: OpError, ValueError, RuntimeError.
            except (OSError, KeyError, ValueError, RuntimeError, artifacts.ArtifactError, tf.errors.OpError) as error:
                reason = str(error).split("\n")[0]
                print(f"The state {place} is damaged and passed over: {reason}", flush=True)
                _remove(place)
        return None

    def save(self, session, saver, step, progress):
        """Write all variables and the progress (a JSON value; its `best` names files of ours that must be kept)."""
        place = self.folder / f"step-{step:08d}"
        # One step has one state: what is there is the same.
        if not place.exists():
            with self._written_as(place) as folder:
                saver.save(session, str(folder / "variables"), write_meta_graph=False, write_state=False)
                kept = self.best_files(progress["best"]["epoch"]) if progress["best"] else []
                files = {path.name: path.stat().st_size for path in kept}
                files.update((f"{place.name}/{path.name}", path.stat().st_size) for path in folder.iterdir())
                artifacts.write_json(folder / "progress.json", dict(progress, files=files))
        for old in self._steps()[:-KEEP]:
            _remove(old)
        self._drop_old_best()

    def save_best(self, session, write, epoch):
        """Write the inference weights of an epoch that is the best so far, by `write(session, prefix)`."""
        name = f"best-{epoch:04d}"
        with self._written_as(self.folder / name) as folder:
            write(session, folder / name)
        for path in list((self.folder / name).iterdir()):
            os.replace(str(path), str(self.folder / path.name))
        (self.folder / name).rmdir()

    def best_files(self, epoch):
        return sorted(self.folder.glob(f"best-{epoch:04d}.*"))

    def remove(self):
        """The outputs are complete: the state is not needed any more. The newest goes last."""
        for place in self._steps():
            _remove(place)
        _remove(self.folder)

    def newest_step(self):
        """The step of the newest state, or None."""
        steps = self._steps()
        return int(steps[-1].name[len("step-") :]) if steps else None

    def others(self):
        """The folders of this run's states with other keys, and their size in bytes."""
        name = self.folder.name.rsplit("-", 1)[0]
        folders = sorted(
            path
            for path in self.folder.parent.glob(name + "-*")
            if path != self.folder and path.name.rsplit("-", 1)[0] == name
        )
        return folders, sum(_size(path) for folder in folders for path in folder.glob("**/*"))

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
    def _written_as(self, place):
        """A new folder to write into, that becomes `place` when all is on the disk."""
        folder = place.with_name(place.name + ".writing")
        try:
            with writing(self.folder, "the state"):
                _remove(folder)
                folder.mkdir()
                yield folder
                for path in folder.iterdir():
                    _flush(path)
                _flush(folder)
                _remove(place)
                os.rename(str(folder), str(place))
                _flush(self.folder)
        except BaseException:
            _remove(folder)
            raise


def _size(path):
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


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
