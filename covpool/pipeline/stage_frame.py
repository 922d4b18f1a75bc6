"""The common frame of the stage scripts: load the parameters, take a lock, and exit with a message on an error.

    with stage("validate", ValidationError, lock="validate") as params:
        ...

Both interpreters use this module, so it is written for Python 3.7.
"""

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator, Optional, Tuple, Type

from covpool.config import Params, ParamsError, load_params
from covpool.pipeline import artifacts

#: The folder of the stages' locks. Like the files that they protect, it is below the folder in which the stages run.
LOCKS = Path(".covpool/locks")
#: Exit code of a program that Ctrl-C ended. It is not 0, so that DVC does not treat the outputs as complete.
INTERRUPTED = 128 + 2

#: Messages that TensorFlow 2 writes on each import at any log level, and that users can ignore.
_NOISE = "oneDNN custom operations are on|All log messages before absl::InitializeLog"

#: Folders to which stages write. Each may be a link to another disk.
_WRITTEN = (
    Path("."),
    Path("data"),
    artifacts.MODELS,
    artifacts.RUNS,
    artifacts.EVALUATION,
    artifacts.REPORTS,
    Path(".covpool"),
)


@contextlib.contextmanager
def stage(name: str, *errors: Type[BaseException], lock: str = "") -> Iterator[Params]:
    """Enclose the work of a stage. On an error it ends the script as `sentences` does.

    Args:
        name: The name of the stage, with which its messages begin.
        errors: Exceptions whose message is a sentence for the user.
        lock: The name of a lock that only one process can hold; a second process waits. "" takes no lock.

    Yields:
        The parameters of the pipeline.

    Raises:
        SystemExit: One of the errors occurred.
    """
    with sentences(name, ParamsError, artifacts.ArtifactError, *errors):
        params = load_params()
        with only_one(name, lock) if lock else contextlib.nullcontext():
            yield params


@contextlib.contextmanager
def sentences(name: str, *errors: Type[BaseException]) -> Iterator[None]:
    """End the script with exit code 1 and one sentence on expected errors.

    These are `errors`, errors of the operating system and a lack of memory. An interrupt ends the script with exit code
    130. Any other exception is a bug and keeps its traceback.

    Args:
        name: The name of the program, with which its messages begin.
        errors: Exceptions whose message is a sentence for the user.

    Raises:
        SystemExit: One of the errors occurred.
    """
    try:
        yield
    except errors as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        sys.exit(f"{name}: {system_error(error)}")
    except MemoryError:
        sys.exit(f"{name}: out of memory. Close other programs, or run on fewer cores: `taskset -c 0 dvc repro`.")
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def system_error(error: OSError) -> str:
    """Describe an error of the operating system.

    Args:
        error: The error.

    Returns:
        The path and the remedy, in one or two sentences.
    """
    place = error.filename if isinstance(error.filename, (str, os.PathLike)) else None
    # NumPy reports a full disk without a number: "1000 requested and 512 written".
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and str(error).endswith(" written")):
        folder, free = _fullest(place)
        return (
            f"the disk is full: {free / 1e6:.0f} MB are free at {folder}. Free some space there, then run the same "
            "command again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        where = f"{place}: {error.strerror}" if place else error.strerror
        return f"no permission to read or write {where}. Check its permissions and those of its folder with `ls -ld`."
    if place:
        return f"{place}: {error.strerror}. Check this file or folder, then run the same command again."
    return str(error)


def _fullest(place: Optional[str]) -> Tuple[Path, int]:
    """Return the folder of `place`, or the stages' folder with the least free space, and its free bytes."""
    if place is None:
        folders = [path for path in (*_WRITTEN, Path(tempfile.gettempdir())) if path.is_dir()]
    else:
        path = Path(place).absolute()
        folders = [next(each for each in (path, *path.parents) if each.is_dir())]
    return min(((path.resolve(), _free(path)) for path in folders), key=lambda found: found[1])


def _free(path: Path) -> int:
    found = os.statvfs(str(path))
    return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def only_one(name: str, lock: str) -> Iterator[None]:
    """Hold a lock while a stage writes its folder. If another process holds it, wait until that process ends.

    A stage continues to run if its `dvc` was killed. The next `dvc repro` starts the same stage again, which must not
    write the folder before the first process has ended. The operating system releases the lock when its process ends.

    Args:
        name: The name of the stage, with which its messages begin.
        lock: The name of the lock.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    with open(str(LOCKS / (lock + ".lock")), "a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            print(
                f"{name}: another process (number {holder}) is still writing the results of this stage. Waiting until "
                f"it ends; `kill {holder}` ends it at once.",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


@contextlib.contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove a folder at the end if it is empty. DVC empties the folder of a run's results before the run.

    Args:
        folder: The folder. It may be missing.
    """
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Suppress TensorFlow's start messages during its import. Other messages to standard error are passed on.

    TensorFlow's libraries do not write through Python, so the file descriptor itself is connected to `grep`. `grep`
    also passes on the last messages of a process that crashes during the import.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        words = subprocess.Popen(["grep", "--line-buffered", "-Ev", _NOISE], stdin=subprocess.PIPE, stdout=saved)
    except OSError:
        os.close(saved)
        yield
        return
    os.dup2(words.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        words.stdin.close()
        words.wait()
