"""The set-up does what is needed and no more, heals after an interruption, and says what to do where it can't go on."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def install(tmp_path, monkeypatch):
    """The installer, at work in a project of its own whose requirements are empty; `calls` notes its commands."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "requirements" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    requirements = tmp_path / "requirements"
    requirements.mkdir()
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
        really_run(command, what)

    monkeypatch.setattr(module, "run", run)
    return module


def test_a_second_set_up_does_nothing_and_a_changed_file_is_installed(install, tmp_path):
    install.set_up("tf2", tests=False)
    assert sorted(install.calls) == [
        "installing py.txt into .venv", "installing tf2.txt into .venv-tf2", "making .venv", "making .venv-tf2"
    ]  # fmt: skip
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


def test_an_interrupted_set_up_heals(install, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        really_run = install.run

        def interrupted(command, what):
            if what.startswith("installing"):
                raise KeyboardInterrupt
            really_run(command, what)

        patch.setattr(install, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            install.environment(".venv", "py", install.CURRENT, tests=False)
    # As after a kill while the folder was being made: a Python that does not run.
    python = tmp_path / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    install.calls.clear()
    install.environment(".venv", "py", install.CURRENT, tests=False)
    assert install.calls == ["making .venv", "installing py.txt into .venv"]
    assert subprocess.run([str(python), "-c", "import pip"]).returncode == 0


def test_a_failed_installation_leaves_no_stamp(install, tmp_path):
    (tmp_path / "requirements" / "py.txt").write_text("./no-such-package\n")
    with pytest.raises(install.SetupError, match=r"installing py.txt into .venv failed \(see above\); run it again"):
        install.environment(".venv", "py", install.CURRENT, tests=False)
    assert not (tmp_path / ".venv" / "installed.txt").exists()
    (tmp_path / "requirements" / "py.txt").write_text("# mended\n")
    install.environment(".venv", "py", install.CURRENT, tests=False)
    assert (tmp_path / ".venv" / "installed.txt").exists()


def test_without_python_3_7_the_error_says_what_to_do(install, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    with pytest.raises(install.SetupError) as caught:
        install.find_python(install.TF1)
    for words in ("no Python 3.7 found", "pyenv install 3.7", "uv python install 3.7", "make setup TF_BUILD=tf2"):
        assert words in str(caught.value)


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
    assert install.choose_build("tf2") == "tf2"


def test_the_build_suits_the_host(install, monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    assert install.choose_build(None) == "intel"
    monkeypatch.setattr(install.shutil, "which", lambda name: "/usr/bin/" + name)
    assert install.choose_build(None) == "stock"
    with pytest.raises(install.SetupError, match="TF_BUILD is 'cuda': wanted intel, stock, tf2"):
        install.choose_build("cuda")


def test_an_ascend_host_brings_its_own(install, monkeypatch, tmp_path):
    monkeypatch.setenv("COVPOOL_TF_PYTHON", sys.executable)
    install.set_up(None, tests=False)
    assert sorted(install.calls) == ["installing py.txt into .venv", "making .venv"]
    assert not (tmp_path / ".venv-tf").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_every_requirement_is_pinned_and_no_index_is_named(path):
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        name, version = line.split("==")
        assert name and version[0].isdigit() and "*" not in version and "://" not in line
