"""stages/py and stages/tf find their interpreter, hand signals and exit codes on, and say what to do without one."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from covpool.config import builds
from tests.project import ROOT


@pytest.fixture
def project(tmp_path):
    """A copy of the launchers without environments, as DVC makes one for a queued experiment."""
    (tmp_path / "copy" / "stages").mkdir(parents=True)
    for name in ("py", "tf"):
        shutil.copy(ROOT / "stages" / name, tmp_path / "copy" / "stages")
    return tmp_path / "copy"


def environment(folder, name):
    (folder / name / "bin").mkdir(parents=True)
    (folder / name / "bin" / "python").symlink_to(sys.executable)


def launch(project, name, *arguments, **changes):
    variables = {
        key: value
        for key, value in os.environ.items()
        if key not in ("DVC_ROOT", "TF_BUILD", "COVPOOL_TF_PYTHON", "PYTHONPATH")
    }
    return subprocess.run(
        [str(project / "stages" / name), *arguments],
        env={**variables, **changes},
        text=True,
        capture_output=True,
        cwd="/",
    )


def test_without_a_set_up_the_error_says_what_to_do(project):
    done = launch(project, "py", "-c", "")
    assert done.returncode == 1 and "make setup" in done.stderr
    done = launch(project, "tf", "-c", "")
    assert done.returncode == 1 and "COVPOOL_TF_PYTHON" in done.stderr and "make setup" in done.stderr
    done = launch(project, "tf", "-c", "", TF_BUILD="tf2")
    assert done.returncode == 1 and ".venv-tf2" in done.stderr and "make setup TF_BUILD=tf2" in done.stderr
    done = launch(project, "tf", "-c", "", TF_BUILD="tf3")
    assert (
        done.returncode == 1
        and "TF_BUILD: expected one of {}, got 'tf3'".format(", ".join(builds.BUILDS)) in done.stderr
    )
    done = launch(project, "tf", "-c", "", TF_BUILD="tf2", COVPOOL_TF_SETTING="device_options.new.build")
    assert done.returncode == 1 and "device_options.new.build asks for tf2" in done.stderr


def interpreter(folder, *lines):
    """A program that answers as an interpreter would."""
    path = folder / "python"
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_will_not_do_is_told_with_the_setting_that_names_it(project, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    (bare / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages" / "yaml.py").touch()
    for python, fault in (
        ("/nowhere/python", "which is not a program."),
        (str(bare / "bin" / "python"), "which lacks TensorFlow, numpy, tqdm."),
        (aged(tmp_path), "which is Python 3.6, older than 3.7."),
        ("/bin/true", "which is not a Python that runs."),
    ):
        for setting in ("COVPOOL_TF_PYTHON", "device_options.cpu.python"):
            more = {"COVPOOL_TF_SETTING": setting} if setting != "COVPOOL_TF_PYTHON" else {}
            done = launch(project, "tf", "-c", "print('ran')", COVPOOL_TF_PYTHON=python, **more)
            assert (done.returncode, done.stdout) == (1, "")
            assert f"stages/tf: {setting}" in done.stderr and f"'{python}', {fault}" in done.stderr


def aged(folder):
    """This interpreter, but it says that it is 3.6."""
    (folder / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 6, 15, 'final', 0)\n")
    return interpreter(folder, f'PYTHONPATH={folder} exec {sys.executable} "$@"')


def test_a_parameter_that_names_an_interpreter_is_named_when_it_is_wrong(project, tmp_path):
    environment(project, ".venv-tf")
    shutil.copytree(ROOT / "covpool", project / "covpool")
    code = (
        "from covpool.pipeline import interpreter; from covpool.config.sections import CpuOptions; "
        "interpreter.hand_on('mine', CpuOptions('cpu', {!r}, {!r}, 1, 0)); print('ran')"
    )
    assert launch(project, "tf", "-c", code.format("default", "")).stdout == "ran\n"
    done = launch(project, "tf", "-c", code.format("default", "/nowhere/python"), COVPOOL_TF_PYTHON=full(tmp_path))
    assert done.returncode == 1 and "device_options.mine.python: expected the path of a Python" in done.stderr
    done = launch(project, "tf", "-c", code.format("stock", ""))
    assert done.returncode == 1 and "device_options.mine.build asks for stock, and" in done.stderr


def full(folder):
    """An interpreter that has all that is asked for, as far as can be told without importing it."""
    packages = folder / "packages"
    packages.mkdir()
    for name in ("tensorflow", "numpy", "yaml", "tqdm"):
        if importlib.util.find_spec(name) is None:
            (packages / (name + ".py")).touch()
    return interpreter(folder, f'PYTHONPATH="$PYTHONPATH:{packages}" exec {sys.executable} "$@"')


@pytest.mark.parametrize("name, place", [("py", ".venv"), ("tf", ".venv-tf")])
def test_the_copy_of_an_experiment_runs_its_own_code_in_the_projects_environment(project, tmp_path, name, place):
    environment(tmp_path / "project", place)
    code = "import sys, os; print(sys.argv[1:], os.environ['PYTHONPATH'])"
    done = launch(project, name, "-c", code, "a b", "c", DVC_ROOT=str(tmp_path / "project"), PYTHONPATH="/more")
    assert done.stdout.split("\n")[0] == f"['a b', 'c'] {project.resolve()}:/more"


def test_its_own_environment_comes_first(project, tmp_path):
    environment(project, ".venv")
    done = launch(project, "py", "-c", "import sys; print(sys.executable)", DVC_ROOT=str(tmp_path / "nowhere"))
    assert done.stdout.strip() == str(project.resolve() / ".venv" / "bin" / "python")


def test_builds_and_interpreters_by_choice(project, tmp_path):
    for place in (builds.LINK, *builds.BUILDS.values()):
        environment(project, place)
    show = ("-c", "import sys; print(sys.executable.split('/')[-3])")
    found = [launch(project, "tf", *show, TF_BUILD=build).stdout.strip() for build in ("", *builds.BUILDS)]
    assert found == [builds.LINK, *builds.BUILDS.values()]
    done = launch(project, "tf", "-c", "print('by path')", COVPOOL_TF_PYTHON=full(tmp_path), TF_BUILD="tf2")
    assert done.stdout == "by path\n"


@pytest.mark.parametrize("name, place", [("py", ".venv"), ("tf", ".venv-tf")])
def test_a_link_to_a_launcher_runs_its_projects_interpreter(project, tmp_path, name, place):
    environment(project, place)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "covpool-python").symlink_to(project / "stages" / name)
    command = [str(tmp_path / "bin" / "covpool-python"), "-c", "import sys, os; print(sys.executable)"]
    # A variable of the same name as one of the launcher's is none of its business.
    done = subprocess.run(command, env={**os.environ, "python": "/nowhere"}, text=True, capture_output=True, cwd="/")
    assert done.stdout.strip() == str(project.resolve() / place / "bin" / "python"), done.stderr


def test_a_leaked_variable_is_not_taken_for_the_interpreter(project):
    done = launch(project, "py", "-c", "print('ran')", python=sys.executable)
    assert done.returncode == 1 and "make setup" in done.stderr


def test_exit_codes_and_signals_arrive(project):
    environment(project, ".venv")
    assert launch(project, "py", "-c", "raise SystemExit(7)").returncode == 7
    code = "import signal, time; signal.signal(15, lambda *_: exit(9)); print('on', flush=True); time.sleep(30)"
    running = subprocess.Popen([str(project / "stages" / "py"), "-c", code], stdout=subprocess.PIPE)
    assert running.stdout.readline() == b"on\n"
    started = time.monotonic()
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 9 and time.monotonic() - started < 15


def test_settings_of_the_allocator_and_threads_can_be_overridden(project):
    environment(project, ".venv-tf")
    code = "import os; print(os.environ['KMP_BLOCKTIME'], os.environ['MALLOC_TRIM_THRESHOLD_'])"
    assert launch(project, "tf", "-c", code).stdout.split() == ["1", "4294967296"]
    assert launch(project, "tf", "-c", code, KMP_BLOCKTIME="7").stdout.split() == ["7", "4294967296"]
