"""Values reach params.yaml as they are, and an experiment that fails leaves params.yaml as it was."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from hypothesis import given
from hypothesis import strategies as st

from covpool.config import read_yaml
from covpool.pipeline import experiment
from tests.project import ROOT

#: What has a meaning to the shell, to Hydra, to OmegaConf or to YAML, and some letters.
MEANINGFUL = "\\${}'\"[](),=:# ~?*&!|>%@`-+._/0e1aZ\u2028\ufeff\u3042"
texts = st.text(st.sampled_from(MEANINGFUL), max_size=12) | st.text(st.characters(exclude_categories=["Cc", "Cs"]))
numbers = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()


@given(value=texts | numbers | st.lists(texts | numbers | st.lists(numbers, max_size=2), max_size=3))
def test_dvc_reads_back_any_value(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("values") / "params.yaml"
    path.write_text("a:\n  b: before\n")
    # More than one combination would be a grid of experiments.
    (combination,) = get_hydra_sweeps({"params.yaml": [experiment.override("a.b", value)]})
    apply_overrides(path, combination["params.yaml"])
    found = read_yaml(path)["a"]["b"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["true", "NULL", "Inf", "nan", "1", "1e3", "", "~", "/null", "a/b-c.d"])
def test_text_stays_text(tmp_path, text):
    (tmp_path / "params.yaml").write_text("a: before\n")
    apply_overrides(tmp_path / "params.yaml", [experiment.override("a", text)])
    assert read_yaml(tmp_path / "params.yaml") == {"a": text}


@pytest.mark.parametrize("text", ["two\nlines", "\x07", "not UTF-8: \udcff"])
def test_what_yaml_cannot_hold_is_refused_by_key(text):
    with pytest.raises(ValueError, match="^dataset.source: expected text in UTF-8 without control characters"):
        experiment.override("dataset.source", text)


@pytest.fixture
def project(tmp_path):
    """A DVC project of one stage, which copies a file, fails, or waits, as params.yaml says."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "params.yaml").write_bytes(b"# explained\nhow:   copy   # copy | fail | wait\n\nsource: stage.sh\n")
    (folder / "dvc.yaml").write_text(
        "stages:\n  only:\n    cmd: sh stage.sh\n    deps: [stage.sh, '${source}']\n    params: [how, source]\n"
        "    outs: [out]\n"
    )
    (folder / "stage.sh").write_text(
        "grep -q '^how: *fail' params.yaml && exit 3\n"
        "grep -q '^how: *wait' params.yaml && echo $$ > waiting.new && mv waiting.new waiting && exec sleep 60\n"
        "echo done > out\n"
    )
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True, env=environment())
    return folder


def environment(**changes):
    who = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {**os.environ, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(ROOT), **who, **changes}


def start(project, **parameters):
    settings = [word for key, value in parameters.items() for word in ("-S", experiment.override(key, value))]
    code = "import sys; from covpool.pipeline import experiment; sys.exit(experiment.run(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *settings],
        cwd=project,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def test_a_run_that_succeeds_is_recorded_whatever_its_source_is_called(project, tmp_path):
    odd = tmp_path / "a, 'b' \"c\" #d $e ${f} =g \\h [i]{j} ü 日"
    odd.mkdir()
    (odd / "picture").write_text("x")
    running = start(project, source=str(odd))
    output = running.communicate()[0]
    assert running.returncode == 0, output
    assert read_yaml(project / "params.yaml") == {"how": "copy", "source": str(odd)}
    lock = read_yaml(project / "dvc.lock")["stages"]["only"]
    assert lock["params"]["params.yaml"]["source"] == str(odd) and lock["deps"][0]["path"] == str(odd)


def test_a_run_that_fails_leaves_the_parameters_as_they_were(project):
    before = (project / "params.yaml").read_bytes()
    running = start(project, how="fail")
    output = running.communicate()[0]
    assert running.returncode == 255 and "params.yaml is again as it was" in output, output
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_so_does_a_run_that_is_interrupted(project, number):
    before = (project / "params.yaml").read_bytes()
    running = start(project, how="wait")
    while not (project / "waiting").exists():
        assert running.poll() is None, running.communicate()[0]
    assert (project / "params.yaml").read_bytes() != before
    # A terminal sends Ctrl-C to all of the group; `kill` to one process.
    os.killpg(running.pid, number) if number == signal.SIGINT else running.send_signal(number)
    output = running.communicate(timeout=60)[0]
    assert running.returncode and "again as it was" in output, output
    assert (project / "params.yaml").read_bytes() == before
    with pytest.raises(ProcessLookupError):
        os.kill(int((project / "waiting").read_text()), 0)


def test_without_an_identity_git_is_told_before_the_run(project, tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("GIT_") or name in ("XDG_CONFIG_HOME", "EMAIL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(project)
    assert "git config --global user.name" in experiment.git_problem()
    subprocess.run(["git", "config", "user.name", "someone"], check=True)
    assert "user.email" in experiment.git_problem()
    subprocess.run(["git", "config", "user.email", "someone@example.org"], check=True)
    assert experiment.git_problem() == ""
    subprocess.run(["git", "config", "--unset", "user.email"], check=True)
    for name, value in environment().items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)
    assert experiment.git_problem() == ""
    monkeypatch.chdir(tmp_path)
    assert "not a Git repository with a commit" in experiment.git_problem()
