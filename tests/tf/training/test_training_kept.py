"""A finished training is not lost before DVC has stored it: its state stays until `evaluate` starts."""

import json
import shutil
import subprocess

import pytest

from covpool.training import state
from tests.project import ROOT
from tests.tf.training import training_project

SAVED = "All 9 steps are done already: writing the results from the state that was kept.\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    made = training_project.Project(tmp_path_factory.mktemp("kept") / "project")
    made.trainer().run()
    return made


def evaluated(project):
    command = (str(ROOT / "stages/tf"), str(ROOT / "stages/evaluate.py"), "--device", "cpu")
    return subprocess.run(command, cwd=str(project.folder), env=project.environment, capture_output=True, text=True)


def copy_of(project, folder):
    shutil.copytree(str(project.folder), str(folder))
    made = object.__new__(training_project.Project)
    made.__dict__.update(project.__dict__, folder=folder)
    return made


def test_what_was_lost_before_dvc_stored_it_is_written_again_without_a_step(trained, tmp_path):
    """As after a full disk for the cache, or a kill after the last epoch: DVC deletes the outputs and starts again."""
    before = trained.results()
    project = copy_of(trained, tmp_path / "project")
    shutil.rmtree(str(project.folder / "models"))
    shutil.rmtree(str(project.folder / "runs"))
    again = project.run()
    assert (again.returncode, again.stdout, again.stderr) == (0, SAVED, "")
    assert project.results() == before
    assert project.record()["speed"]["median"] == trained.record()["speed"]["median"]
    # The same once more: nothing has proven yet that the outputs are stored.
    assert project.run().stdout == SAVED


def test_evaluate_forgets_the_state_of_the_run_that_it_scores_and_no_other(trained, tmp_path):
    project = copy_of(trained, tmp_path / "project")
    (own,) = project.states()
    other = own.with_name("cpu-0123456789abcdef")
    shutil.copytree(str(own), str(other))
    found = evaluated(project)
    assert found.returncode == 0, found.stderr
    assert project.states() == [other]
    assert "the data set has no split test: skipped" in found.stdout
    assert "17 val pictures classified correctly" in found.stdout and "the best checkpoint was chosen" in found.stdout


def test_a_new_training_forgets_the_finished_ones_and_keeps_the_unfinished(trained, tmp_path):
    project = copy_of(trained, tmp_path / "project")
    (own,) = project.states()
    unfinished = own.with_name("cpu-0123456789abcdef")
    shutil.copytree(str(own), str(unfinished))
    (unfinished / state.FINISHED).unlink()
    project.change({"train.seed": 1, "train.epochs": 1})
    found = project.run()
    assert found.returncode == 0, found.stderr
    assert own not in project.states() and unfinished in project.states()
    assert f"Delete the ones that you will not resume: .covpool/training/{unfinished.name}\n" in found.stdout


def test_a_removal_that_is_cut_short_leaves_nothing_that_looks_like_a_state(trained, tmp_path, monkeypatch):
    project = copy_of(trained, tmp_path / "project")
    folder = project.folder / ".covpool/training"

    def killed(path):
        if path.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(state, "_remove", killed)
    with pytest.raises(KeyboardInterrupt):
        state.forget(folder, "cpu")
    monkeypatch.undo()
    assert list(folder.glob("cpu-*")) == [] and len(list(folder.iterdir())) == 1
    with state.WorkingState(folder / "cpu-fresh"):
        assert [path.name for path in folder.iterdir()] == ["cpu-fresh"]


def test_a_state_that_a_trainer_uses_is_left_alone(trained, tmp_path):
    project = copy_of(trained, tmp_path / "project")
    (own,) = project.states()
    with state.WorkingState(own):
        state.forget(own.parent, "cpu")
        assert project.states() == [own]


def test_evaluate_refuses_faces_that_the_run_was_not_trained_on(trained, tmp_path):
    project = copy_of(trained, tmp_path / "project")
    table = project.folder / "data/faces/val.csv"
    table.write_text(table.read_text().replace("val/0.png", "val/other.png"))
    found = evaluated(project)
    assert found.returncode == 1
    assert "data/faces is not the data that the run 'cpu' was trained on: run `dvc repro`" in found.stderr


def test_evaluate_of_a_damaged_model_says_how_to_get_a_good_one(trained, tmp_path):
    project = copy_of(trained, tmp_path / "project")
    path = project.folder / "models/cpu/best.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    found = evaluated(project)
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert "is damaged" in found.stderr and "`dvc repro -f train@cpu`" in found.stderr


@pytest.mark.parametrize("damage", ["best weights", "progress"])
def test_damage_that_checksums_do_not_cover_is_noticed_on_resuming(trained, tmp_path, damage):
    project = copy_of(trained, tmp_path / "project")
    (own,) = project.states()
    (own / state.FINISHED).unlink()
    if damage == "best weights":
        path = next(own.glob("best-*.data*"))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    else:
        path = own / "step-00000009/progress.json"
        progress = json.loads(path.read_text())
        progress["history"][0]["loss"] += 1
        path.write_text(json.dumps(progress))
    shutil.rmtree(str(project.folder / "models"))
    found = project.run()
    assert found.returncode == 0 and "was changed after it was saved" in found.stdout
    assert project.results() == trained.results()
