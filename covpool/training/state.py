"""The working state of a run. With it a run can resume after its process ended in any way and at any time.

DVC deletes a stage's outputs before it runs the stage again. So the state lies elsewhere, in
`.covpool/training/<run>-<key>/`. The key is a hash of everything that the result depends on: data, parameters, code,
TensorFlow build, threads. The folder holds

    lock                      locked while a trainer works here; a second one waits
    step-00000128/            every variable (weights, the optimiser's slots, averages, the step) and `progress.json`
    best-0007.{index,data}    the inference weights of the best epoch so far
    finished                  present when the outputs have been written

A step's folder is written under another name, flushed to the disk and renamed. The previous step's folder is kept, so
that there is always an intact one. Three checks detect a damaged folder: TensorFlow's checksums of the variables, the
seal of `progress.json`, and the hashes of the best weights in it. Then the previous folder is used.

The outputs of a finished run are safe only when DVC has stored them. That may fail (a full disk) or never happen (a
kill). So the newest state stays until DVC has stored the outputs. `forget` removes it when the stage `evaluate` starts,
because DVC starts that stage only after it has stored the outputs of `train`. `forget` also removes it when another run
of that name begins.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

import tensorflow.compat.v1 as tf

from covpool.pipeline import artifacts

KEEP = 2
FINISHED = "finished"
#: The number of digits of a run's key in the name of its folder.
KEY_LENGTH = 16
#: The beginning of the name of a folder that is being deleted.
REMOVING = ".removing-"


class StateError(RuntimeError):
    """The working state or the outputs can't be used or written. The message says why and what to do."""


@contextlib.contextmanager
def only_writer(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock file in the block, so that one process at a time works on a run.

    Args:
        path: of the lock file.
        wait: wait for the process that holds it; False: raise StateError instead.

    Raises:
        StateError: another process holds it, and `wait` is False; or the file can't be written.
    """
    with writing(path.parent, "a lock file"):
        stream = None
        while stream is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = _locked(path, wait)
    with stream:
        yield


def _locked(path, wait):
    """The lock file, open and locked; None if the process that had it removed it in between."""
    stream = open(str(path), "w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            stream.close()
            raise StateError(f"another process is training this run (it holds {path}).") from None
        print(
            f"Another process is training this run (it holds {path}). Waiting until it ends; `pgrep -f "
            "stages/train.py` finds it. If it completes the run, its results are used.",
            flush=True,
        )
        fcntl.flock(stream, fcntl.LOCK_EX)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(stream.fileno()), os.stat(str(path))):
            return stream
    stream.close()
    return None


@contextlib.contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Convert the errors of writing inside the block into a StateError that says what to do.

    Args:
        folder: the folder that is written to.
        what: the name of what is written, for the message.

    Raises:
        StateError: the block raised an error of the file system or of TensorFlow.
    """
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
    """Find the folder of all states.

    DVC may run an experiment in a copy of the project. Its states are in the folder of the original project.

    Returns:
        The folder, relative to the current one if DVC did not set DVC_ROOT.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".covpool" / "training"


class WorkingState:
    """The state of one run in one folder. Use it as a context; the folder is locked inside.

    Args:
        folder: the folder of the state.
    """

    def __init__(self, folder: Union[str, Path]) -> None:
        self.folder = Path(folder)
        self._stack = contextlib.ExitStack()
        #: {file of the best weights: its SHA-256}. Each hash is computed once, when the file is written, to save time.
        self._best_hashes = {}

    def __enter__(self) -> "WorkingState":
        self._stack.enter_context(only_writer(self.folder / "lock"))
        for leftover in (*self.folder.glob("*.writing"), *self.folder.parent.glob(REMOVING + "*")):
            _remove(leftover)
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def restore(self, session: tf.Session, saver: tf.train.Saver) -> Optional[Dict[str, Any]]:
        """Restore all variables from the newest intact state.

        A damaged state is reported and removed.

        Args:
            session: the session that holds the variables.
            saver: the saver of all variables.

        Returns:
            The state's progress; None if there is no intact state.
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
        """Read the progress of a state; raises an error if the state or the best weights have changed since."""
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

    def save(self, session: tf.Session, saver: tf.train.Saver, step: int, progress: Dict[str, Any]) -> None:
        """Write all variables and the progress.

        Args:
            session: the session that holds the variables.
            saver: the saver of all variables.
            step: the number of steps that are done.
            progress: plain values for JSON. Its entry `best` names the epoch whose best weights are kept, or is None.

        Raises:
            StateError: the state can't be written.
        """
        place = self.folder / f"step-{step:08d}"
        # A step has only one state, so an existing folder holds the same values.
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

    def save_best(self, session: tf.Session, write: Callable[[tf.Session, Path], Any], epoch: int) -> None:
        """Write the inference weights of the best epoch so far.

        Args:
            session: the session that holds the variables.
            write: a function of the session and a prefix that writes the weights as a checkpoint.
            epoch: the number of the epoch, counted from 1.

        Raises:
            StateError: the weights can't be written.
        """
        name = f"best-{epoch:04d}"
        with self._written_as(self.folder / name) as folder:
            write(session, folder / name)
        for path in list((self.folder / name).iterdir()):
            self._best_hashes[path.name] = artifacts.sha256_file(path)
            os.replace(str(path), str(self.folder / path.name))
        (self.folder / name).rmdir()

    def best_files(self, epoch: int) -> List[Path]:
        """List the files of an epoch's best weights.

        Args:
            epoch: the number of the epoch, counted from 1.

        Returns:
            The files, sorted; empty if there are none.
        """
        return sorted(self.folder.glob(f"best-{epoch:04d}.*"))

    def finish(self) -> None:
        """Mark the state as finished: the outputs are complete.

        The state of the newest step stays until `forget` removes it. Older states are removed now.

        Raises:
            StateError: the mark can't be written.
        """
        with writing(self.folder, "the state"), artifacts.atomic_file(self.folder / FINISHED) as stream:
            stream.write("The outputs of this run have been written.\n")
        for place in self._steps()[:-1]:
            _remove(place)
        self._drop_old_best()

    def newest_step(self) -> Optional[int]:
        """Find the newest state.

        Returns:
            The step of the state, or None if there is no state.
        """
        steps = self._steps()
        return int(steps[-1].name[len("step-") :]) if steps else None

    def others(self) -> Tuple[List[Path], int]:
        """Find the unfinished states of this run that have other keys.

        Returns:
            The folders of the states, and their total size in bytes.
        """
        states = _states(self.folder.parent, self.folder.name.rsplit("-", 1)[0])
        folders = [path for path in states if path != self.folder and not (path / FINISHED).exists()]
        return folders, sum(_size(path) for folder in folders for path in folder.glob("**/*"))

    def _steps(self):
        return sorted(path for path in self.folder.glob("step-*") if path.suffix != ".writing")

    def _drop_old_best(self):
        """Delete the best weights that no kept state names."""
        named = set()
        for place in self._steps():
            with contextlib.suppress(artifacts.ArtifactError, KeyError):
                named.update(artifacts.read_json(place / "progress.json")["files"])
        for path in self.folder.glob("best-*"):
            if path.name not in named:
                _remove(path)

    @contextlib.contextmanager
    def _written_as(self, place):
        """Create a folder to write into. It is renamed to `place` when all its files are on the disk."""
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
    """Remove the finished states of a run that no trainer is using.

    A folder is renamed before it is deleted. So an interrupted deletion leaves nothing that looks like a state.

    Args:
        states: the folder of all states.
        name: the name of the run.
        key: the first digits of the key of the state to remove, see `run_key.key`; None to remove all states.
    """
    for folder in _states(states, name):
        if (folder / FINISHED).exists() and key in (None, folder.name.rsplit("-", 1)[1]):
            with contextlib.suppress(StateError, OSError):
                with only_writer(folder / "lock", wait=False):
                    gone = folder.with_name(REMOVING + folder.name)
                    _remove(gone)
                    os.rename(str(folder), str(gone))
                _remove(gone)


def _states(folder, name):
    """List the folders of all states of a run."""
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
