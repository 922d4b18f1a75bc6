"""What every stage script does around its work: load the parameters, take a lock, and end on an error with a sentence.

    with stage("validate", ValidationError, lock="validate") as params:
        ...

Both interpreters use it, so it is written for Python 3.7.
"""

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator, Optional, Type

from covpool.config import Params, ParamsError, load_params
from covpool.pipeline import artifacts

#: Where the stages' locks lie: below the folder that they run in, as what they protect does.
LOCKS = Path(".covpool/locks")
#: Exit code of a program that Ctrl-C ended; DVC must not take what is there for complete.
INTERRUPTED = 128 + 2

#: What TensorFlow 2 writes each time that it is imported, at any log level, and that a user need not act on.
_NOISE = "oneDNN custom operations are on|All log messages before absl::InitializeLog"

#: Folders that stages write to. Each may be a link to another disk.
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
    """The block of a stage: gives the parameters, and ends the script on an error as `sentences` does.

    Args:
        name: of the stage, the beginning of its messages.
        errors: exceptions whose message is a sentence for the user.
        lock: name of a lock that no two processes hold at once; a second one waits. "": no lock.
    """
    with sentences(name, ParamsError, artifacts.ArtifactError, *errors):
        params = load_params()
        with only_one(name, lock) if lock else contextlib.nullcontext():
            yield params


@contextlib.contextmanager
def sentences(name: str, *errors: Type[BaseException]) -> Iterator[None]:
    """End the script with exit code 1 and one sentence on `errors`, and on a full disk, a missing permission or memory.

    An interrupt ends it with exit code 130. Any other exception is a bug, and keeps its traceback.
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
    """One sentence for an error of the operating system: the place, and what to do."""
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


def _fullest(place: Optional[str]):
    """(folder, free bytes) where an error says it was, or of the folders of the stages on the disk with least space."""
    if place is None:
        folders = [path for path in (*_WRITTEN, Path(tempfile.gettempdir())) if path.is_dir()]
    else:
        path = Path(place).absolute()
        folders = [next(each for each in (path, *path.parents) if each.is_dir())]
    return min(((path.resolve(), _free(path)) for path in folders), key=lambda found: found[1])


def _free(path):
    found = os.statvfs(str(path))
    return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def only_one(name: str, lock: str) -> Iterator[None]:
    """Hold a lock while a stage writes its folder; wait for the process that has it.

    A stage whose `dvc` was killed goes on by itself. The next `dvc repro` starts the same stage again: it must not
    write the folder before the first one has ended. The lock ends with its process, however that ends.
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
    """Remove a folder at the end if nothing is in it: DVC empties that of a run's results before the run."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Leave out TensorFlow's greeting while it is imported; other messages to standard error pass.

    Its libraries write past Python, so the file descriptor itself leads through `grep`, which also delivers the last
    words of a process that ends in the middle.
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
