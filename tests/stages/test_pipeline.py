"""The pipeline as a user runs it: a clone with a folder of pictures, `dvc repro`, status, changes, experiments."""

import json
import shutil

import numpy as np
import pytest

from tests.pipeline_project import CLASSES, change, commit, dvc, git, make_project, rows, run

#: Steps that are enough to learn the easy task.
LEARNS = {"train.epochs": 2, "train.epoch_size": 8, "train.batch_size": 7}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small project, run once, whose pictures Git does not have."""
    folder = make_project(tmp_path_factory.mktemp("project"), LEARNS, commit_pictures=False)
    dvc(folder, "repro")
    commit(folder, "run")
    return folder


def test_all_artifacts_fit_together(project):
    faces = rows(project / "data/faces/train.csv")
    assert len(faces) == 42 and np.load(project / "data/faces/train.npy").shape == (42, 52, 52, 3)
    assert len(rows(project / "runs/cpu/history.csv")) == 2 and len(rows(project / "runs/cpu/times.csv")) == 16
    predictions = rows(project / "evaluation/cpu/val/predictions.csv")
    assert len(predictions) == 14
    right = sum(row["actual"] == row["predicted"] for row in predictions) / len(predictions)
    scores = scores_of(project)
    assert scores["accuracy"] == pytest.approx(right) and scores["split"] == "val" and scores["checkpoint"] == "best"
    record = json.loads((project / "runs/cpu/run.json").read_text())
    assert record["kind"] == "cpu" and record["progress"]["steps"] == 16 and record["data"]["images"]["train"] == 42
    assert not list((project / ".covpool" / "training").iterdir())
    page = (project / "reports/index.html").read_text()
    assert {row["actual"] for row in predictions} == set(CLASSES)
    assert list(rows(project / "evaluation/cpu/val/confusion.csv")[0]) == ["actual", *CLASSES]
    assert (project / "data/sheets" / (CLASSES[-1] + ".png")).is_file() and f">{CLASSES[-1]}<" in page
    assert "0.6406" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_the_network_learns(project):
    """Seven classes: a network that does not learn gets 1 of 7 right, and its cross entropy is ln 7 or more."""
    history = rows(project / "runs/cpu/history.csv")
    first, last = (float(history[epoch]["loss"]) for epoch in (0, -1))
    assert last < 0.8 * first and last < 0.7 * np.log(len(CLASSES))
    assert float(history[-1]["accuracy"]) > float(history[0]["accuracy"])
    headline = json.loads((project / "reports/metrics.json").read_text())["cpu"]
    assert headline["val_best"]["acc_pct"] >= 60


def scores_of(project):
    return json.loads((project / "evaluation/cpu/val/scores.json").read_text())


def test_a_second_run_does_nothing_and_status_is_clean(project):
    assert "didn't change" in dvc(project, "repro") and "Running stage" not in dvc(project, "repro")
    assert "up to date" in dvc(project, "status")
    assert git(project, "status", "--porcelain") == ""


def test_metrics_and_parameters_are_shown_by_dvc(project):
    metrics = json.loads(dvc(project, "metrics", "show", "--json"))[""]["data"]
    # A few numbers of each run, not every count of every stage.
    assert set(metrics) == {"reports/metrics.json"}
    headline = metrics["reports/metrics.json"]["data"]["cpu"]
    assert {"loss", "step_s", "images_per_s", "peak_gib"} <= set(headline)
    assert headline["val_best"]["acc_pct"] == pytest.approx(100 * scores_of(project)["accuracy"], abs=0.01)
    change(project, {"train.epochs": 3})
    try:
        difference = json.loads(dvc(project, "params", "diff", "--json"))
        assert difference == {"params.yaml": {"train.epochs": {"old": 2, "new": 3, "diff": 1}}}
        # Of the whole pipeline, what reads the parameter is out of date, and the check of it.
        assert set(json.loads(dvc(project, "status", "--json"))) == {"check", "train@cpu"}
    finally:
        change(project, {"train.epochs": 2})


def test_a_named_schedule_is_part_of_what_train_depends_on(project):
    """The parameter stays `model1` while the rates behind the name change."""
    table = project / "covpool/config/schedules.py"
    before = table.read_text()
    try:
        table.write_text(before.replace("(0, 0.005)", "(0, 0.006)"))
        assert table.read_text() != before
        assert "train@cpu" in json.loads(dvc(project, "status", "--json"))
        # A message of what only checks is none of it.
        table.write_text(before)
        rules = project / "covpool/config/rules.py"
        rules.write_text(rules.read_text() + "# changed\n")
        assert "train@cpu" not in json.loads(dvc(project, "status", "--json"))
    finally:
        table.write_text(before)
        git(project, "checkout", "covpool/config")


def test_plots_have_all_runs(project):
    shown = json.loads(dvc(project, "plots", "show", "--json"))
    assert not shown.get("errors")
    validated = {"data/validated/balance.csv", "data/validated/brightness.csv", "data/validated/sizes.csv"}
    assert validated | {"loss", "val_accuracy", "learning_rate", "step_times", "confusion"} <= {
        name.split("dvc.yaml::")[-1] for name in shown["data"]
    }


def test_a_wrong_parameter_stops_at_check_and_loses_nothing(project):
    before = (project / "models/cpu/best.index").read_bytes()
    change(project, {"train.optimizer": "adam"})
    try:
        output = dvc(project, "repro", code=255)
    finally:
        change(project, {"train.optimizer": "ADAM"})
    assert "train.optimizer: expected one of ADAGRAD" in output and "Traceback" not in output
    assert (project / "models/cpu/best.index").read_bytes() == before


def test_a_queued_experiment_runs_in_a_copy_without_environments(project):
    """It finds the pictures, which Git does not have, and results that are there already."""
    # A changed tolerance is the least that a queued experiment can run: check and report.
    dvc(project, "exp", "run", "--queue", "-n", "tolerant", "-S", "report.loss_tolerance=0.5")
    dvc(project, "exp", "run", "--run-all")
    shown = json.loads(dvc(project, "exp", "show", "--json", "--all-commits"))
    found = [each for base in shown for each in base.get("experiments") or []]
    assert [each["name"] for each in found] == ["tolerant"]
    data = found[0]["revs"][0]["data"]
    assert data["params"]["params.yaml"]["data"]["report"]["loss_tolerance"] == 0.5
    assert data["metrics"]["reports/metrics.json"]["data"]["cpu"]["loss"] > 0
    # The working copy is as it was.
    assert len(rows(project / "runs/cpu/history.csv")) == 2


def test_a_lost_output_comes_back_from_the_cache(project):
    shutil.rmtree(project / "models")
    assert "Running stage 'train" not in dvc(project, "repro")
    assert (project / "models/cpu/model.json").is_file()


def test_the_ports_command_line_runs_the_stages_and_copies_results(project, tmp_path):
    flags = "--image_size 48 --max_nrof_epochs 1 --epoch_size 1 --batch_size 4 --random_flip".split()
    flags += ["--models_base_dir", str(tmp_path / "m"), "--logs_base_dir", str(tmp_path / "l")]
    command = ["sh", str(project / "train.sh"), "--data_dir", "pictures", *flags]
    run(project, *command)
    record = json.loads((project / "runs/cpu/run.json").read_text())
    assert record["parameters"]["train"]["adam"] == {"beta1": 0.9, "beta2": 0.999, "epsilon": 0.1}
    assert record["parameters"]["train"]["schedule"] == [
        [0, 0.005],
        [80, 0.002],
        [150, 0.001],
        [250, 0.0005],
        [350, 0.0001],
        [1000, 0.00001],
    ]
    loss = record["loss"]
    terms = loss["cross_entropy"] + loss["l2"] + loss["center"]
    assert loss["l2"] > 0 and loss["total"] == pytest.approx(terms, rel=1e-6)
    assert (tmp_path / "m" / "cpu" / "model.json").read_bytes() == (project / "models/cpu/model.json").read_bytes()
    logs = tmp_path / "l" / "cpu"
    assert all((logs / name).is_file() for name in ("history.csv", "run.json", "val/scores.json"))
    # The way back.
    assert "the results are those of the last commit again" in run(project, "make", "back")
    assert "up to date" in dvc(project, "status") and git(project, "status", "--porcelain") == ""
