"""A whole run on the NPU: the stages train and evaluate, in processes of their own, against the stand-in."""

import csv
import subprocess

import numpy as np
import pytest

from covpool.pipeline import artifacts
from covpool.training.finite import NotFinite
from covpool.training.graph import TrainingGraph
from tests.tf.devices.npu_standin import give_npu
from tests.tf.training.training_project import ROOT, Project, without_onednn

LOOP = {
    "devices": ["npu"],
    "network.pooling": "covariance",
    "network.vectorise": "upper",
    # Little beside the weights to keep: fc_1 has 16 million.
    "train.optimizer": "MOM",
    "train.moving_average_decay": 0,
    "train.epochs": 2,
    "train.epoch_size": 4,
    "device_options.npu.iterations_per_loop": 2,
    "device_options.npu.loss_scaling": "dynamic",
}
AVERAGE = {"network.pooling": "average", "network.vectorise": "full"}


@pytest.fixture(scope="module")
def npu_run(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("npu") / "project", LOOP, device="npu")
    give_npu(project)
    project.printed = project.run()
    assert project.printed.returncode == 0, project.printed.stderr
    return project


def table(path):
    with open(str(path), newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_on_the_npu_reaches_its_end_and_says_what_it_was(npu_run):
    record = npu_run.record()
    assert artifacts.seal_is_intact(record)
    assert record["kind"] == "npu" and record["device"]["name"] == "910A" and record["device"]["driver"] == "23.0.0"
    assert record["device"]["options"]["iterations_per_loop"] == 2
    assert record["progress"]["steps"] == 8 and record["progress"]["steps_per_loss"] == 2
    assert record["speed"]["waiting_share"] is None and record["speed"]["seconds_per_step"] > 0
    rows = table(npu_run.folder / "runs/npu/history.csv")
    assert [row["steps"] for row in rows] == ["4", "8"]
    assert all(0 < float(row["clipped"]) <= 1 or row["clipped"] == "0.0" for row in rows)
    assert float(rows[-1]["orthogonality"]) < 1e-5


def test_a_loops_time_is_divided_by_its_steps(npu_run):
    rows = table(npu_run.folder / "runs/npu/times.csv")
    assert [(row["epoch"], row["step"], row["steps"]) for row in rows] == [
        ("1", "1", "2"),
        ("1", "3", "2"),
        ("2", "5", "2"),
        ("2", "7", "2"),
    ]
    assert [row["waiting_seconds"] for row in rows] == [""] * 4
    speed = npu_run.record()["speed"]
    assert speed["seconds_per_step"] == pytest.approx(np.mean([float(row["seconds"]) for row in rows[2:]]), abs=1e-6)
    assert speed["images_per_second"] == pytest.approx(6 / speed["seconds_per_step"], rel=1e-4)


def test_the_model_is_scored_on_the_npu_in_full_batches(npu_run):
    """17 pictures in batches of 6; the stand-in refuses a shape that is open."""
    found = subprocess.run(
        [str(ROOT / "stages" / "tf"), str(ROOT / "stages" / "evaluate.py"), "--device", "npu"],
        capture_output=True,
        cwd=str(npu_run.folder),
        env=npu_run.environment,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    rows = table(npu_run.folder / "evaluation/npu/val/predictions.csv")
    assert len(rows) == 17
    assert sum(float(value) for key, value in rows[0].items() if key.startswith("p_")) == pytest.approx(1)


def test_a_run_is_refused_where_there_is_no_npu(tmp_path):
    project = Project(tmp_path / "project", LOOP, device="npu")
    found = project.run()
    assert found.returncode == 1 and found.stdout == ""
    told = without_onednn(found.stderr)
    assert told.startswith("train: device 'npu' is an NPU, but this Python (")
    assert len(told.splitlines()) == 1 and not (project.folder / "models").exists()


def test_what_is_not_finite_in_a_loop_is_one_of_its_steps(tmp_path, npu_bridge, monkeypatch, narrow):
    project = Project(tmp_path / "project", dict(LOOP, **AVERAGE), device="npu")
    trainer, original = project.trainer(), TrainingGraph.run_step

    def step(graph, session, rate, stop):
        values = original(graph, session, rate, stop)
        return values._replace(loss=float("nan")) if trainer.step == 2 else values

    monkeypatch.setattr(TrainingGraph, "run_step", step)
    with pytest.raises(NotFinite, match=r"^one of the steps 3 to 4 \(epoch 1\): the loss is nan"):
        trainer.run()


def test_overflows_that_no_scale_ends_stop_the_run(tmp_path, npu_bridge, monkeypatch, narrow):
    changes = dict(AVERAGE, **{"train.epoch_size": 80})
    project = Project(tmp_path / "project", dict(LOOP, **changes), device="npu")
    trainer, original, runs = project.trainer(), TrainingGraph.run_step, []

    def step(graph, session, rate, stop):
        values = runs[-1] if runs else original(graph, session, rate, stop)
        runs.append(values)
        return values._replace(norms=values.norms * np.float32(np.inf))

    monkeypatch.setattr(TrainingGraph, "run_step", step)
    with pytest.raises(NotFinite, match=r"^one of the steps 65 to 66 .* the gradients of CovPool2/Conv2d_1/weights,"):
        trainer.run()
    assert len(runs) == 33
