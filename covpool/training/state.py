"""The working state of a run: what it takes to resume after the process ended in any way, at any moment.

DVC deletes a stage's outputs before it runs the stage again. So the state lies elsewhere, in
`.covpool/training/<run>-<key>/`, where the key is a hash of everything that the result depends on (data, parameters,
code, TensorFlow build, threads). The folder holds

    lock                      locked while a trainer works here; a second one is refused
    step-00000128/            every variable (weights, the optimiser's slots, averages, the step) and `progress.json`
    best-0007.{index,data}    the inference weights of the best epoch so far
    finished                  present when the outputs have been written

A step's folder is written under another name, flushed to the disk and renamed, and the one before it is kept, so that
there is always a good one. A damaged one is noticed by TensorFlow's checksums of the variables, the seal of
`progress.json` and the hashes of the best weights in it; then the one before is taken.

The outputs of a finished run are safe only when DVC has stored them, which may fail (a full disk) or never happen (a
kill). So the newest state stays until that is proven: `forget` removes it when the stage `evaluate` starts, which DVC
runs only after it stored what `train` wrote, or when another run of that name begins.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Optional

import tensorflow.compat.v1 as tf

from covpool.pipeline import artifacts

KEEP = 2
FINISHED = "finished"
#: Digits of a run's key that the name of its folder holds.
KEY_LENGTH = 16
#: The beginning of the name of a folder that is being deleted.
REMOVING = ".removing-"


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
            f"another process is training this run (it holds {path}). Wait until it ends, or end it; `pgrep -f "
            "stages/train.py` finds it. If only dvc was killed, its training continues, and the next `dvc repro` "
            "takes over "
            "the results."
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
            "{} could not be written to {}: {}. {} MB are free there; {}. The last good state is kept: run the same "
            "command again to resume from it.".format(
                what,
                folder,
                str(error).split("\n")[0],
                shutil.disk_usage(str(there)).free // 2**20,
                "free some space" if full else "make the folder writable",
            )
        ) from None


def training_states() -> Path:
    """The folder of all states. Experiments that DVC runs in a copy of the project keep theirs where the project is."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".covpool" / "training"


class WorkingState:
    """The state of one run in one folder. Use as a context: the folder is locked inside."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._stack = contextlib.ExitStack()
        #: {file of the best weights: its SHA-256}, taken when it was written: hashing it each epoch would cost time.
        self._best_hashes = {}

    def __enter__(self):
        self._stack.enter_context(only_writer(self.folder / "lock"))
        for leftover in (*self.folder.glob("*.writing"), *self.folder.parent.glob(REMOVING + "*")):
            _remove(leftover)
        return self

    def __exit__(self, *_):
        self._stack.close()

    def restore(self, session, saver):
        """Give all variables the newest good state.

        A damaged state is reported and removed.

        Returns:
            The state's progress; None if there is no good state.
        """
        for place in reversed(self._steps()):
            try:
                progress = self._read_progress(place)
                saver.restore(session, str(place / "variables"))
                return progress
            # TensorFlow's builds report a damaged checkpoint in different ways: OpError, ValueError, RuntimeError.
            except (OSError, KeyError, ValueError, RuntimeError, artifacts.ArtifactError, tf.errors.OpError) as error:
                reason = str(error).split("\n")[0]
                print(f"The state {place} is damaged and will be skipped: {reason}", flush=True)
                _remove(place)
        return None

    def _read_progress(self, place):
        """The progress of a state; StateError or another error if it or the best weights are not as they were saved."""
        progress = artifacts.read_json(place / "progress.json")
        if not artifacts.seal_is_intact(progress):
            raise StateError("progress.json was changed after it was saved")
        for name, size in progress["files"].items():
            if (self.folder / name).stat().st_size != size:
                raise StateError(f"{name} is truncated")
        for name, expected in progress["best_hashes"].items():
            if artifacts.sha256_file(self.folder / name) != expected:
                raise StateError(f"{name} was changed after it was saved")
        self._best_hashes = dict(progress["best_hashes"])
        return progress

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
                hashes = {path.name: self._best_hashes[path.name] for path in kept}
                artifacts.write_json(
                    folder / "progress.json", artifacts.seal(dict(progress, files=files, best_hashes=hashes))
                )
        for old in self._steps()[:-KEEP]:
            _remove(old)
        self._drop_old_best()

    def save_best(self, session, write, epoch):
        """Write the inference weights of an epoch that is the best so far, by `write(session, prefix)`."""
        name = f"best-{epoch:04d}"
        with self._written_as(self.folder / name) as folder:
            write(session, folder / name)
        for path in list((self.folder / name).iterdir()):
            self._best_hashes[path.name] = artifacts.sha256_file(path)
            os.replace(str(path), str(self.folder / path.name))
        (self.folder / name).rmdir()

    def best_files(self, epoch):
        return sorted(self.folder.glob(f"best-{epoch:04d}.*"))

    def finish(self):
        """Mark the state: the outputs are complete. It stays until `forget` removes it, without the step before."""
        with writing(self.folder, "the state"), artifacts.atomic_file(self.folder / FINISHED) as stream:
            stream.write("The outputs of this run have been written.\n")
        for place in self._steps()[:-1]:
            _remove(place)
        self._drop_old_best()

    def newest_step(self):
        """The step of the newest state, or None."""
        steps = self._steps()
        return int(steps[-1].name[len("step-") :]) if steps else None

    def others(self):
        """The folders of this run's unfinished states with other keys, and their size in bytes."""
        states = _states(self.folder.parent, self.folder.name.rsplit("-", 1)[0])
        folders = [path for path in states if path != self.folder and not (path / FINISHED).exists()]
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


def forget(states: Path, name: str, key: Optional[str] = None) -> None:
    """Remove finished states of a run, those that no trainer is using.

    A folder is renamed before it is deleted: a deletion that is cut short leaves nothing that looks like a state.

    Args:
        states: the folder of all states.
        name: of the run.
        key: only the state with this key, see `run_key.key`; None: all of them.
    """
    for folder in _states(states, name):
        if (folder / FINISHED).exists() and key in (None, folder.name.rsplit("-", 1)[1]):
            with contextlib.suppress(StateError, OSError):
                with only_writer(folder / "lock"):
                    gone = folder.with_name(REMOVING + folder.name)
                    _remove(gone)
                    os.rename(str(folder), str(gone))
                _remove(gone)


def _states(folder, name):
    """The folders of all states of a run."""
    return sorted(path for path in folder.glob(name + "-*") if path.name.rsplit("-", 1)[0] == name)


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
