"""stages/py and stages/tf find their interpreter, hand signals and exit codes on, and say what to do without one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
    variables = {key: value for key, value in os.environ.items()
                 if key not in ("DVC_ROOT", "TF_BUILD", "COVPOOL_TF_PYTHON", "PYTHONPATH")}  # fmt: skip
    return subprocess.run([str(project / "stages" / name), *arguments], env={**variables, **changes}, text=True,
                          capture_output=True, cwd="/")  # fmt: skip


def test_without_a_set_up_the_error_says_what_to_do(project):
    done = launch(project, "py", "-c", "")
    assert done.returncode == 1 and "make setup" in done.stderr
    done = launch(project, "tf", "-c", "")
    assert done.returncode == 1 and "COVPOOL_TF_PYTHON" in done.stderr and "make setup" in done.stderr
    done = launch(project, "tf", "-c", "", TF_BUILD="tf2")
    assert done.returncode == 1 and ".venv-tf2" in done.stderr and "make setup TF_BUILD=tf2" in done.stderr
    done = launch(project, "tf", "-c", "", TF_BUILD="tf3")
    assert done.returncode == 1 and "wanted intel, stock or tf2" in done.stderr
    done = launch(project, "tf", "-c", "", COVPOOL_TF_PYTHON="/nowhere/python")
    assert done.returncode == 1 and "/nowhere/python" in done.stderr


@pytest.mark.parametrize("name, place", [("py", ".venv"), ("tf", ".venv-tf")])
def test_the_copy_of_an_experiment_runs_its_own_code_in_the_projects_environment(project, tmp_path, name, place):
    environment(tmp_path / "project", place)
    code = "import sys, os; print(sys.argv[1:], os.environ['PYTHONPATH'])"
    done = launch(project, name, "-c", code, "a b", "c", DVC_ROOT=str(tmp_path / "project"), PYTHONPATH="/more")
    assert done.stdout.split("\n")[0] == "['a b', 'c'] {}:/more".format(project.resolve())


def test_its_own_environment_comes_first(project, tmp_path):
    environment(project, ".venv")
    done = launch(project, "py", "-c", "import sys; print(sys.executable)", DVC_ROOT=str(tmp_path / "nowhere"))
    assert done.stdout.strip() == str(project.resolve() / ".venv" / "bin" / "python")


def test_builds_and_interpreters_by_choice(project):
    for place in (".venv-tf", ".venv-tf2", ".venv-tf115", ".venv-tf115-stock"):
        environment(project, place)
    show = ("-c", "import sys; print(sys.executable.split('/')[-3])")
    found = [launch(project, "tf", *show, TF_BUILD=build).stdout.strip() for build in ("", "intel", "stock", "tf2")]
    assert found == [".venv-tf", ".venv-tf115", ".venv-tf115-stock", ".venv-tf2"]
    by_path = {"COVPOOL_TF_PYTHON": sys.executable, "TF_BUILD": "tf2"}
    done = launch(project, "tf", "-c", "import sys; print(sys.executable)", **by_path)
    assert done.stdout.strip() == sys.executable


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
