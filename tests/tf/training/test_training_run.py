"""A run from the first step to its outputs: what is written, that it repeats, and what stops it."""

import csv
import hashlib
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import devices
from covpool.networks.checkpoints import CheckpointError
from covpool.pipeline import artifacts
from covpool.training import metrics
from covpool.training.finite import NotFinite
from covpool.training.graph import NoDecomposition, TrainingGraph
from covpool.training.state import StateError
from covpool.training.trainer import Interrupted
from tests.tf.networks import networks_truth
from tests.tf.training import training_project


def history(project):
    with open(str(project.folder / "runs/cpu/history.csv"), newline="") as stream:
        return [{key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(stream)]


def test_history_tells_every_epoch(finished):
    rows = history(finished)
    assert tuple(rows[0]) == artifacts.HISTORY_COLUMNS
    assert [(row["epoch"], row["steps"], row["learning_rate"]) for row in rows] == [
        (1, 3, 0.002),
        (2, 6, 0.002),
        (3, 9, 0.001),
    ]
    for row in rows:
        assert row["loss"] == pytest.approx(row["cross_entropy"] + row["l2_loss"] + row["center_loss"], rel=1e-6)
        assert row["l2_loss"] > 0 and row["center_loss"] > 0
        # Average pooling has no eigenvalues and no frame.
        assert row["clipped"] is row["condition"] is row["orthogonality"] is None


def test_the_best_and_the_last_weights_are_kept_by_validation(finished):
    rows = history(finished)
    model = artifacts.read_json(finished.folder / "models/cpu/model.json")
    accuracies = [row["val_accuracy"] for row in rows]
    best = model["checkpoints"]["best"]
    # Of equally accurate epochs, the one with the least cross entropy.
    expected = max(range(3), key=lambda number: (accuracies[number], -rows[number]["val_cross_entropy"]))
    assert best == {"epoch": expected + 1, "val_accuracy": max(accuracies)}
    assert model["checkpoints"]["last"] == {"epoch": 3, "val_accuracy": accuracies[-1]}
    images = np.load(str(finished.folder / "data/faces/val.npy"))[:, 4:52, 4:52]
    for which, epoch in (("best", best["epoch"]), ("last", 3)):
        reader = tf.train.load_checkpoint(str(finished.folder / "models/cpu" / which))
        names = reader.get_variable_to_shape_map()
        assert not [name for name in names if "Adam" in name or "Average" in name or "step" in name]
        weights = {name.replace("CovPool2/", ""): reader.get_tensor(name) for name in names}
        ends = networks_truth.forward(weights, networks_truth.standardised(images), "covpoolnet2", pooling="average")
        scores = metrics.scores(ends["logits"], np.arange(17) % 7, training_project.CLASSES)
        assert scores["accuracy"] == rows[epoch - 1]["val_accuracy"]
        assert scores["cross_entropy"] == pytest.approx(rows[epoch - 1]["val_cross_entropy"], rel=1e-3)


def test_the_record_is_sealed_and_agrees_with_the_tables(finished):
    record = finished.record()
    assert artifacts.seal_is_intact(record)
    assert record["files"] == {
        name: hashlib.sha256((finished.folder / "runs/cpu" / name).read_bytes()).hexdigest()
        for name in ("history.csv", "times.csv")
    }
    last = history(finished)[-1]
    assert record["loss"] == {
        "total": last["loss"],
        "cross_entropy": last["cross_entropy"],
        "l2": last["l2_loss"],
        "center": last["center_loss"],
    }
    assert record["progress"] == {
        "epochs": 3,
        "epoch_size": 3,
        "steps": 9,
        "batch_size": 6,
        "resumed": False,
        "steps_per_loss": 1,
        "learning_rates": [[0, 0.002], [2, 0.001]],
    }
    assert record["tensorflow"] == devices.describe_tensorflow() and record["kind"] == "cpu"
    assert record["data"]["images"] == {"train": 40, "val": 17}
    with open(str(finished.folder / "runs/cpu/times.csv"), newline="") as stream:
        times = list(csv.DictReader(stream))
    assert [row["warm_up"] for row in times] == ["true"] + ["false"] * 8
    timed = [float(row["seconds"]) for row in times[1:]]
    assert record["speed"]["seconds_per_step"] == pytest.approx(np.mean(timed[-3:]), abs=1e-5)
    assert record["speed"]["median"] == pytest.approx(np.median(timed), abs=1e-5)
    assert record["speed"]["images_per_second"] == pytest.approx(6 / np.mean(timed[-3:]), rel=1e-3)
    assert record["speed"]["first_step"] == float(times[0]["seconds"])
    assert all(float(row["waiting_seconds"]) <= float(row["seconds"]) for row in times)


def test_what_a_user_sees_is_a_line_an_epoch(finished):
    assert finished.printed.stderr == ""
    lines = finished.printed.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch   1/3", "epoch   2/3", "epoch   3/3"]
    for line, row in zip(lines, history(finished)):
        assert "loss {:.4f} (cross entropy {:.4f})".format(row["loss"], row["cross_entropy"]) in line
        assert line.endswith(" images/s")
    assert len(finished.states()) == 1 and not list(finished.folder.glob("**/*.writing"))


def read_events(folder):
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in tf.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found[value.tag, event.step] = value
    return found


def test_events_hold_the_history(finished):
    found = read_events(finished.folder / "tensorboard/cpu")
    for row in history(finished):
        for name, value in row.items():
            if value is not None:
                assert found[name, int(row["steps"])].simple_value == pytest.approx(value, rel=1e-6)


def test_a_second_run_is_equal_byte_for_byte_whatever_the_threads_that_prepare(finished, project):
    """In another process, and with histograms on."""
    again = project({"train.nrof_preprocess_threads": 5, "train.log_histograms": True})
    stale = again.folder / "tensorboard/cpu/events.out.tfevents.1.earlier"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"")
    again.trainer(events=True).run()
    assert again.results() == finished.results()
    found = read_events(again.folder / "tensorboard/cpu")
    assert found["histograms/CovPool2/fc_1/weights", 9].histo.num == 256 * 2000
    assert not stale.exists()


def test_balanced_class_weights_change_the_loss_and_unfinished_runs_are_listed(finished, project, capsys):
    """Of the 40 pictures two classes have 5 and the others 6, so their weights differ a little."""
    other = project({"train.class_weights": "balanced", "train.epochs": 1})
    left = other.folder / ".covpool/training/cpu-0123456789abcdef/step-00000007"
    left.mkdir(parents=True)
    (left / "variables").write_bytes(bytes(3 << 20))
    other.trainer().run()
    assert "Unfinished runs of 'cpu' with other settings use 3 MB" in capsys.readouterr().out
    assert left.exists()
    found, plain = history(other)[0], history(finished)[0]
    assert found["cross_entropy"] != plain["cross_entropy"]
    assert found["cross_entropy"] == pytest.approx(plain["cross_entropy"], rel=0.1)


def test_a_run_can_start_from_a_checkpoint(finished, project):
    """At a learning rate of 0 the weights stay those that were given, in the averages too."""
    prefix = str(finished.folder / "models/cpu/last")
    changes = {
        "train.pretrained_model": prefix,
        "train.pretrained_hash": artifacts.checkpoint_hash(prefix),
        "train.learning_rate": 0.0,
        "train.epochs": 1,
        "train.epoch_size": 1,
        "train.center_loss_factor": 0.0,
    }
    tuned = project(changes)
    tuned.trainer().run()
    given, found = tf.train.load_checkpoint(prefix), tf.train.load_checkpoint(str(tuned.folder / "models/cpu/last"))
    assert found.get_variable_to_shape_map() == given.get_variable_to_shape_map()
    for name in given.get_variable_to_shape_map():
        same = np.array_equal(given.get_tensor(name), found.get_tensor(name))
        assert same != ("moving_" in name), name
    assert tuned.record()["data"]["pretrained"] == artifacts.checkpoint_hash(prefix)


@pytest.mark.parametrize("given", ["", "0" * 64])
def test_a_checkpoint_of_other_content_than_is_said_stops_the_run(finished, project, given):
    prefix = str(finished.folder / "models/cpu/last")
    with pytest.raises(CheckpointError, match=f"expected the hash of .*{artifacts.checkpoint_hash(prefix)}"):
        project({"train.pretrained_model": prefix, "train.pretrained_hash": given}).trainer().run()


def test_a_checkpoint_that_is_not_there_stops_the_run(project):
    with pytest.raises(CheckpointError, match="no checkpoint at .*absent"):
        project({"train.pretrained_model": "absent"}).trainer().run()


def test_after_an_interrupt_in_an_epoch_the_run_goes_on_from_the_step(finished, project, monkeypatch, capsys):
    same, before = project(), signal.getsignal(signal.SIGINT)
    run, original, rates = same.trainer(), TrainingGraph.run_step, []

    def step(graph, session, rate, stop):
        rates.append(rate)
        if len(rates) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return original(graph, session, rate, stop)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingGraph, "run_step", step)
        with pytest.raises(Interrupted, match="interrupted after step 5 of 9; run the same command again") as message:
            run.run()
    assert message.value.signal == signal.SIGINT and signal.getsignal(signal.SIGINT) is before
    assert run.state.newest_step() == 5 and not (same.folder / "models/cpu").exists()
    capsys.readouterr()
    same.trainer().run()
    assert capsys.readouterr().out.startswith("Resuming at step 5 of 9.\n")
    assert same.results() == finished.results()
    assert same.record()["progress"]["resumed"] is True


def test_a_loss_that_is_not_finite_stops_the_run(project):
    wild = project({"train.schedule": [[0, 0.002], [1, 1e30]]})
    run = wild.trainer()
    with pytest.raises(NotFinite) as message:
        run.run()
    text = str(message.value)
    assert "at learning rate 1e+30" in text and "Lower the learning rate" in text
    assert "step 5 (epoch 2): the loss is" in text and "CovPool2/fc_1/weights" in text
    assert "The state of step 3 is kept in" in text and run.state.newest_step() == 3
    assert not (wild.folder / "models/cpu").exists()


class Weights:
    """A session in which one of two weights is not finite."""

    def run(self, norms):
        return np.float32([1, np.nan])


def test_matrices_without_eigenvalues_stop_the_run(project):
    def no_decomposition(*_):
        raise NoDecomposition()

    run = project().trainer()
    weights = [tf.get_variable(name, [2], use_resource=True) for name in ("a", "b")]
    run.graph = SimpleNamespace(run_step=no_decomposition, score=no_decomposition, variables=weights, weight_norms=None)
    run.step = 3
    with pytest.raises(NotFinite) as message:
        run._step(Weights(), epoch=1, rate=0.5)
    assert str(message.value).startswith(
        "step 4 (epoch 2): the covariance matrices are not finite, and these weights are not finite: b, at learning "
        "rate 0.5. No state was saved before it."
    )
    with pytest.raises(NotFinite, match="validation after epoch 2: .*not finite: b. .*batch_norm_decay"):
        run._validate(Weights(), epoch=1)
    run.graph.score = lambda *_: np.full((17, 7), np.inf)
    with pytest.raises(NotFinite, match="validation after epoch 2"):
        run._validate(Weights(), epoch=1)


def test_a_failure_to_write_the_outputs_keeps_the_state(project):
    one = project({"train.epochs": 1, "train.epoch_size": 1})
    (one.folder / "runs").write_text("a file where a folder should be")
    trainer = one.trainer()
    with pytest.raises(StateError, match="the outputs could not be written"):
        trainer.run()
    assert trainer.state.newest_step() == 1


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"normalise.size": 60}, "at least 68x68"),
        ({"normalise.margin": 5}, "at least 58x58"),
        ({"dataset.classes": ["anger", "disgust"]}, "expected faces of the classes anger, disgust"),
    ],
)
def test_faces_that_do_not_fit_the_parameters_stop_the_run_at_once(project, changes, word):
    with pytest.raises(artifacts.ArtifactError, match=word):
        project(changes).trainer()


def test_the_stage_reports_an_error_in_one_line(project):
    broken = project()
    (broken.folder / "data/faces/train.npy").unlink()
    found = broken.run()
    assert found.returncode == 1 and found.stdout == ""
    assert (
        found.stderr
        == "train: data/faces/train.npy is missing. Run the stage normalise again: `dvc repro normalise`.\n"
    )
    assert json.loads((broken.folder / "data/faces/classes.json").read_text()) == list(training_project.CLASSES)
