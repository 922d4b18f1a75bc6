"""The set-up does what is needed and no more, heals after an interruption, and says what to do where it can't go on."""

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pip
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from covpool.config import builds
from tests.project import ROOT


@pytest.fixture
def install(tmp_path, monkeypatch):
    """The installer, at work in a project of its own whose requirements are empty; `calls` notes its commands."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "requirements" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (tmp_path / "stages").mkdir()
    shutil.copy(ROOT / "stages" / "tf", tmp_path / "stages")
    for name in ("py", "py-test", "tf115", "tf115-test", "tf115-stock", "tf2", "tf2-test"):
        (requirements / (name + ".txt")).write_text("# nothing\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "REQUIREMENTS", requirements)
    for variable in ("COVPOOL_TF_PYTHON", "TF_BUILD"):
        monkeypatch.delenv(variable, raising=False)
    module.calls = []
    really_run = module.run

    def run(command, what):
        module.calls.append(what)
        if command[1:3] != ["-m", "venv"]:
            return really_run(command, what)
        # Its own pip takes an environment seconds to unpack; here it borrows ours.
        really_run([*command, "--without-pip"], what)
        (packages,) = Path(command[-1]).glob("lib/python*/site-packages")
        (packages / "pip").symlink_to(Path(pip.__file__).parent)

    monkeypatch.setattr(module, "run", run)
    return module


def environment(install, *arguments, **options):
    job = install.environment(*arguments, **options)
    if job:
        job()


def test_a_second_set_up_does_nothing_and_a_changed_file_is_installed(install, tmp_path):
    install.set_up("tf2", tests=False)
    assert sorted(install.calls) == [
        "installing py.txt into .venv",
        "installing tf2.txt into .venv-tf2",
        "making .venv",
        "making .venv-tf2",
    ]
    assert os.readlink(tmp_path / ".venv-tf") == ".venv-tf2"
    install.calls.clear()
    install.set_up(None, tests=False)  # keeps the build that was set up
    assert install.calls == []
    install.set_up(None, tests=True)
    assert sorted(install.calls) == ["installing py-test.txt into .venv", "installing tf2-test.txt into .venv-tf2"]
    install.calls.clear()
    (tmp_path / "requirements" / "py.txt").write_text("# changed\n")
    install.set_up(None, tests=True)
    assert install.calls == ["installing py.txt into .venv"]
    install.calls.clear()
    install.set_up(None, tests=True)
    assert install.calls == []


@pytest.mark.parametrize("step", ["making", "installing"])
def test_a_set_up_that_was_cut_short_is_made_anew(install, tmp_path, monkeypatch, capsys, step):
    with monkeypatch.context() as patch:
        really_run = install.run

        def cut_short(command, what):
            if what.startswith("making"):
                really_run(command, what)
            if what.startswith(step):
                # What a kill leaves behind: some files, among them a pip that seems to be there.
                (tmp_path / ".venv" / "half-written").touch()
                raise KeyboardInterrupt

        patch.setattr(install, "run", cut_short)
        with pytest.raises(KeyboardInterrupt):
            environment(install, ".venv", "py", install.CURRENT, tests=False)
    install.calls.clear()
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    assert install.calls == ["making .venv", "installing py.txt into .venv"]
    assert ".venv was not finished: making it with" in capsys.readouterr().out
    assert not (tmp_path / ".venv" / "half-written").exists()
    install.calls.clear()
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    assert install.calls == []


def test_failed_packages_of_the_tests_leave_the_rest_usable(install, tmp_path):
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    (tmp_path / "requirements" / "py-test.txt").write_text("./no-such-package\n")
    with pytest.raises(install.SetupError):
        environment(install, ".venv", "py", install.CURRENT, tests=True)
    install.calls.clear()
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    assert install.calls == []


def test_a_project_that_was_moved_gets_environments_of_its_new_place(install, tmp_path, monkeypatch, capsys):
    first, second = tmp_path / "first", tmp_path / "second place"
    first.mkdir()
    monkeypatch.setattr(install, "ROOT", first)
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    first.rename(second)
    monkeypatch.setattr(install, "ROOT", second)
    install.calls.clear()
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    assert install.calls == ["making .venv", "installing py.txt into .venv"]
    assert f".venv was made at {first}/.venv, and an environment can't be moved" in capsys.readouterr().out
    assert str(second) in (second / ".venv" / "bin" / "activate").read_text()


def test_a_link_to_another_projects_environment_is_kept_or_replaced_but_never_followed(install, tmp_path, monkeypatch):
    other, here = tmp_path / "other", tmp_path / "here"
    other.mkdir(), here.mkdir()
    monkeypatch.setattr(install, "ROOT", other)
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    (here / ".venv").symlink_to(other / ".venv")
    monkeypatch.setattr(install, "ROOT", here)
    install.calls.clear()
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    assert install.calls == [] and (here / ".venv").is_symlink()
    install.write_stamp(other / ".venv", {**install.read_stamp(here / ".venv"), "place": "/elsewhere/.venv"})
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    assert not (here / ".venv").is_symlink() and (other / ".venv" / "bin" / "python").exists()


def test_a_second_set_up_waits_even_for_the_programs_of_a_killed_one(install, tmp_path):
    code = (
        "import importlib.util, pathlib, sys; "
        "spec = importlib.util.spec_from_file_location('install', sys.argv[1]); "
        "install = importlib.util.module_from_spec(spec); spec.loader.exec_module(install); "
        "install.ROOT = pathlib.Path(sys.argv[2])\n"
        "with install.lock(): install.run(['sh', '-c', 'echo $$; exec sleep 60'], 'sleeping')"
    )
    command = [sys.executable, "-c", code, str(ROOT / "requirements" / "install.py"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        program = int(first.stdout.readline())
        first.kill()
        first.wait()
        with open(tmp_path / ".venv.lock") as stream:
            with pytest.raises(BlockingIOError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.kill(program, signal.SIGKILL)
            fcntl.flock(stream, fcntl.LOCK_EX)  # comes when the program is gone


def test_an_environment_without_its_python_heals(install, tmp_path, capsys):
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    # As after pyenv has removed the version.
    python = tmp_path / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    install.calls.clear()
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    assert install.calls == ["making .venv", "installing py.txt into .venv"]
    assert subprocess.run([str(python), "-c", "import pip"]).returncode == 0
    assert ".venv has no Python that runs: making it with" in capsys.readouterr().out


def test_a_failed_installation_is_not_taken_for_done(install, tmp_path):
    (tmp_path / "requirements" / "py.txt").write_text("./no-such-package\n")
    with pytest.raises(
        install.SetupError,
        match=r"installing py.txt into .venv failed \(see above\). Fix the cause, then run the same command again",
    ):
        environment(install, ".venv", "py", install.CURRENT, tests=False)
    (tmp_path / "requirements" / "py.txt").write_text("# mended\n")
    install.calls.clear()
    environment(install, ".venv", "py", install.CURRENT, tests=False)
    assert install.calls == ["making .venv", "installing py.txt into .venv"]


def test_without_python_3_7_the_error_says_what_to_do(install, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    with pytest.raises(install.SetupError) as caught:
        install.find_python(install.TF1)
    for words in ("no Python 3.7 found", "pyenv install 3.7", "uv python install 3.7", "make setup TF_BUILD=tf2"):
        assert words in str(caught.value)


def test_a_missing_python_3_7_is_told_before_anything_is_installed(install, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    with pytest.raises(install.SetupError, match="no Python 3.7 found"):
        install.set_up("intel", tests=False)
    assert install.calls == []


def test_pyenvs_newest_patch_version_is_found(install, tmp_path, monkeypatch):
    for version in ("3.7.9", "3.7.16", "3.7-dev", "3.8.1"):
        folder = tmp_path / "pyenv" / "versions" / version / "bin"
        folder.mkdir(parents=True)
        (folder / "python{}.{}".format(*version.split("-")[0].split(".")[:2])).write_text("#!/bin/sh\necho 3 7\n")
        for path in folder.iterdir():
            path.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert install.find_python(install.TF1).endswith("versions/3.7.16/bin/python3.7")


@pytest.mark.parametrize("system, machine", [("Linux", "aarch64"), ("Darwin", "x86_64")])
def test_where_tensorflow_1_does_not_exist_the_way_out_is_told(install, monkeypatch, system, machine):
    monkeypatch.setattr(install.platform, "system", lambda: system)
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    with pytest.raises(install.SetupError, match="COVPOOL_TF_PYTHON(.|\n)*TF_BUILD=tf2"):
        install.choose_build(None)
    if system == "Linux":
        assert install.choose_build("tf2") == "tf2"
    else:
        with pytest.raises(install.SetupError, match="pinned for Linux on x86_64 and aarch64, and this is Darwin"):
            install.choose_build("tf2")


def test_the_build_suits_the_host(install, monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    assert install.choose_build(None) == "intel"
    monkeypatch.setattr(install.shutil, "which", lambda name: "/usr/bin/" + name)
    assert install.choose_build(None) == "stock"
    with pytest.raises(install.SetupError, match="TF_BUILD: expected one of intel, stock, tf2, got 'cuda'"):
        install.choose_build("cuda")


def test_the_builds_are_those_that_parameters_can_name(install):
    assert {name: row[0] for name, row in install.BUILDS.items()} == builds.BUILDS
    assert install.LINK == builds.LINK
    makefile = (ROOT / "Makefile").read_text()
    assert "TF_BUILD=" + "|".join(builds.BUILDS) in makefile
    assert "[--build {}]".format("|".join(builds.BUILDS)) in install.__doc__


def test_another_build_is_said_to_be_the_default_now(install, monkeypatch, capsys):
    monkeypatch.setattr(install, "environment", lambda *_: None)
    monkeypatch.setattr(install, "choose_build", lambda asked: asked or install.linked_build())
    install.set_up("intel", tests=False)
    assert capsys.readouterr().out == "set-up: the default TensorFlow build is intel\n"
    install.set_up(None, tests=False)
    assert capsys.readouterr().out == ""
    install.set_up("tf2", tests=False)
    found = capsys.readouterr().out
    assert "the default TensorFlow build is now tf2; it was intel" in found and "stages/check.py" in found


def test_an_ascend_host_brings_its_own(install, monkeypatch, tmp_path):
    monkeypatch.setenv("COVPOOL_TF_PYTHON", "/nowhere/python")
    with pytest.raises(install.SetupError, match="COVPOOL_TF_PYTHON can't be used"):
        install.set_up(None, tests=False)
    assert install.calls == []
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("tensorflow", "numpy", "yaml", "tqdm"):
        (packages / (name + ".py")).touch()
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.setenv("COVPOOL_TF_PYTHON", sys.executable)
    install.set_up(None, tests=False)
    assert sorted(install.calls) == ["installing py.txt into .venv", "making .venv"]
    assert not (tmp_path / ".venv-tf").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_every_requirement_is_pinned_and_no_index_is_named(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==" and "*" not in pin.version and requirement.url is None


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.in")), ids=lambda path: path.name)
def test_every_direct_requirement_has_a_reason_and_is_pinned(path):
    pinned = [canonicalize_name(Requirement(line).name) for line in locked(path.with_suffix(".txt"))]
    for line in path.read_text().splitlines():
        if not line.startswith(("#", "-c ")):
            asked, _, reason = line.partition("#")
            assert len(reason.split()) > 1, line
            assert canonicalize_name(Requirement(asked).name) in pinned, line


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_tensorflow_2_is_pinned_once_for_each_processor(machine):
    needed = [Requirement(line) for line in locked(ROOT / "requirements" / "tf2.txt")]
    names = [each.name for each in needed if not each.marker or each.marker.evaluate({"platform_machine": machine})]
    # arm64 has TensorFlow's wheels under one name only; for x86-64 the one without CUDA is enough.
    assert [name for name in names if name in ("tensorflow", "tensorflow-cpu")] == [
        "tensorflow-cpu" if machine == "x86_64" else "tensorflow"
    ]
    assert len(names) == len(set(names)) > 20


def locked(path):
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def test_a_lock_marks_what_only_one_kind_of_processor_needs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "requirements")
    merge = importlib.import_module("lock").merge
    both = {"numpy": "2.0", "Zlib": "1"}
    assert merge({"x86_64": both}) == ["numpy==2.0", "Zlib==1"]
    found = merge({"x86_64": {**both, "fast": "1", "old": "1"}, "aarch64": {**both, "slow": "2", "old": "2"}})
    assert found == [
        'fast==1; platform_machine == "x86_64"',
        "numpy==2.0",
        'old==1; platform_machine == "x86_64"',
        'old==2; platform_machine == "aarch64"',
        'slow==2; platform_machine == "aarch64"',
        "Zlib==1",
    ]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_without_a_python_says_so(tmp_path):
    (tmp_path / "sh").symlink_to(shutil.which("sh"))
    command = [shutil.which("make"), "-n", "setup"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode and "install Python 3.11 or 3.12" in done.stderr
