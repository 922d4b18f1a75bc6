"""Several workers on this host, exchanging through Horovod: what they compute, that it repeats, and what stops it."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool.distributed import launcher
from covpool.pipeline import artifacts
from tests.workers.workers_project import ROOT, ended, finished_steps, wait_until, workers_of

#: Long enough to be disturbed in.
LONG = {"train.epochs": 6, "train.epoch_size": 2}
#: The real network with everything that is averaged over the workers, and W on its manifold. Small steps by plain
#: gradients: Adam, or a maximum that another picture's pixel wins, makes more of the last digit than there is to see.
WHOLE = {
    "network.pooling": "covariance",
    "network.batch_norm_decay": 0.5,
    "train.class_weights": "balanced",
    "train.epochs": 4,
    "train.epoch_size": 1,
    "train.weight_decay": 0.0001,
    "train.optimizer": "MOM",
    "train.schedule": [[0, 0.0003]],
}


def history(project):
    with open(str(project.folder / "runs/cpu/history.csv"), newline="") as stream:
        return [{key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(stream)]


def test_what_a_user_sees_and_the_record_are_those_of_one_run(finished):
    assert finished.printed.stderr == ""
    lines = finished.printed.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch   1/3", "epoch   2/3", "epoch   3/3"]
    assert finished.log(1) == ""
    record = finished.record()
    assert artifacts.seal_is_intact(record)
    assert record["device"]["count"] == 2 and record["progress"]["batch_size"] == 12
    assert record["device"]["threads"] == max(1, len(os.sched_getaffinity(0)) // 2)
    assert record["speed"]["images_per_second"] == pytest.approx(12 / record["speed"]["seconds_per_step"], rel=1e-4)
    assert not (finished.folder / "runs/cpu-1").exists()


def test_all_workers_have_the_same_variables_to_the_last_bit(project):
    team = project(WHOLE)
    assert team.run("nothing").returncode == 0
    leader, other = team.variables(0), team.variables(1)
    assert set(leader) == set(other) and leader["global_step"] == 4
    for name, value in leader.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    frame = leader["CovPool2/spdpooling1/orth_weight0"].astype(np.float64)
    np.testing.assert_allclose(frame.T @ frame, np.eye(128), atol=5e-6)


def test_the_energy_is_that_of_all_workers_and_the_memory_that_of_the_fullest_device(project):
    team = project({"train.epochs": 2})
    done = team.run("power_by_rank")
    assert done.returncode == 0, done.stderr
    record = team.record()
    # They begin and end within a moment of each other.
    assert record["energy"]["joules"] == pytest.approx(250 * record["energy"]["seconds"], rel=0.1)
    assert record["energy"]["covered"] > 0.9 and record["memory"]["device_peak_bytes"] == 2 * 2**30


def test_worker_0_is_described_with_what_it_exchanges_and_nobody_is_started(project):
    team = project({"network.pooling": "covariance"}, 3)
    found = subprocess.run(
        [str(ROOT / "stages" / "tf"), "-m", "covpool.diagnostics.describe", "--device", "cpu", "--out", "out"],
        cwd=str(team.folder),
        env=team.environment,
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stderr) == (0, "")
    summary = (team.folder / "out/summary.md").read_text()
    assert "Worker 0 of 3;" in summary and "6 pictures of 48x48 (of 3 workers together 18);" in summary
    reduced = int(summary.split("| HorovodAllreduce | ")[1].split(" |")[0])
    assert f"| together | {reduced} | " in summary and "HorovodBroadcast" not in summary
    meta = tf.MetaGraphDef.FromString((team.folder / "out/graph.meta").read_bytes())
    import horovod.tensorflow  # noqa: F401 - its operations, without which the graph can't be read

    with tf.Graph().as_default():
        tf.train.import_meta_graph(meta)
        trained = [each.shape.num_elements() for each in tf.trainable_variables()]
    assert f"| gradients | {len(trained)} | {4 * sum(trained)} |" in summary


@pytest.fixture(scope="module")
def start_of(tmp_path_factory):
    """A checkpoint with moving statistics that fit its weights, for runs in which they stay as they are."""
    from tests.workers.workers_project import TeamProject

    made = TeamProject(tmp_path_factory.mktemp("start") / "project", 1, dict(WHOLE, **{"train.epochs": 1}))
    assert made.run().returncode == 0
    prefix = str(made.folder / "models/cpu/last")
    return {"train.pretrained_model": prefix, "train.pretrained_hash": artifacts.checkpoint_hash(Path(prefix))}


def compared(project, change, start):
    """The same global batch on one worker and on two: the largest differences of losses, relative, and of weights."""
    alone, team = project(dict(WHOLE, **start, **{"train.batch_size": 12}), 1), project(dict(WHOLE, **start))
    for each in (alone, team):
        found = each.run(change)
        assert found.returncode == 0, found.stderr
    losses = [
        abs(one[name] - two[name]) / abs(one[name])
        for one, two in zip(history(alone), history(team))
        for name in ("loss", "cross_entropy", "l2_loss", "center_loss", "val_cross_entropy")
    ]
    one, two, before = alone.variables(0), team.variables(0), tf.train.load_checkpoint(start["train.pretrained_model"])
    weights = [name for name in before.get_variable_to_shape_map() if "moving_" not in name]
    # Kernels have a deviation of 0.1; those of a team that did not average would differ as much as they move.
    assert max(np.abs(one[name] - before.get_tensor(name)).max() for name in weights) > 1e-3
    return max(losses), max(np.abs(one[name] - two[name]).max() for name in weights)


def tell(capsys, batch_norm, losses, weights):
    with capsys.disabled():
        print(
            f"\nTwo workers of batch 6 beside one of batch 12, batch normalisation {batch_norm}, 4 small steps: "
            f"losses differ by up to {losses:.2g} of themselves, weights by up to {weights:.2g}"
        )


def test_two_workers_follow_one_with_their_global_batch(project, start_of, capsys):
    """To 1e-5, dropout and augmentation on: both belong to the picture and the step, whoever computes them."""
    losses, weights = compared(project, "frozen_batch_norm", start_of)
    tell(capsys, "frozen", losses, weights)
    assert losses < 1e-5 and weights < 1e-5


def test_with_batch_normalisation_by_each_workers_own_batch_they_differ(project, start_of, capsys):
    """By how much is told, not promised: statistics of 6 pictures are not those of 12."""
    losses, weights = compared(project, "nothing", start_of)
    tell(capsys, "on", losses, weights)
    assert 1e-5 < losses < math.inf and 1e-5 < weights < math.inf


def test_horovodrun_and_the_stage_give_the_same_bytes(finished, project):
    team = project()
    horovodrun = str(Path(sys.executable).parent / "horovodrun")
    done = team.run(launcher=(sys.executable, horovodrun, "-np", "2", "--gloo"))
    assert done.returncode == 0, done.stderr
    assert team.results() == finished.results()


def test_three_workers_repeat_byte_for_byte(project):
    one, two = project({"train.epochs": 1}, 3), project({"train.epochs": 1}, 3)
    for each in (one, two):
        assert each.run().returncode == 0
    assert one.results() == two.results()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    from tests.workers.workers_project import TeamProject

    made = TeamProject(tmp_path_factory.mktemp("undisturbed") / "project", 2, LONG)
    assert made.run().returncode == 0
    return made


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_is_killed_ends_the_run_and_it_can_go_on(undisturbed, project, rank):
    victim = project(LONG)
    process = victim.start()
    wait_until(lambda: max(finished_steps(victim), default=0) >= 4, process)
    started = time.monotonic()
    workers = workers_of(process)
    os.kill(workers[rank], signal.SIGKILL)
    done = ended(process)
    assert done.returncode == 1 and time.monotonic() - started < launcher.GRACE
    assert done.stderr.endswith(
        f"train: worker {rank} of 2 was ended by SIGKILL. Run the same command again to resume from the last state.\n"
    )
    assert not any(os.path.exists(f"/proc/{each}") for each in workers)
    again = victim.run()
    assert again.returncode == 0 and again.stdout.startswith("Resuming at step ")
    assert victim.results() == undisturbed.results()


@pytest.mark.parametrize("to, number", [("stage", signal.SIGINT), ("worker 1", signal.SIGTERM)])
def test_a_signal_to_any_ends_all_after_the_same_step(undisturbed, project, to, number):
    victim = project(LONG)
    process = victim.start()
    wait_until(lambda: max(finished_steps(victim), default=0) >= 4, process)
    os.kill(process.pid if to == "stage" else workers_of(process)[1], number)
    done = ended(process)
    assert done.returncode == 128 + number
    last = max(finished_steps(victim))
    told = f"train: interrupted after step {last} of 12; run the same command again to resume there.\n"
    assert done.stderr == told and victim.log(1) == told
    again = victim.run()
    assert again.stdout.startswith(f"Resuming at step {last} of 12.\n")
    assert victim.results() == undisturbed.results()


def test_a_gradient_that_is_not_finite_on_one_worker_stops_all(project):
    team = project()
    done = team.run("poison_worker_1")
    assert done.returncode == 1
    assert done.stderr.startswith("train: step 5 (epoch 2): the loss is nan, and the gradients of CovPool2/Conv2d_1/")
    kept = f"The state of step 3 is kept in {team.states()[0].relative_to(team.folder)}."
    assert done.stderr == team.log(1).replace("No state was saved before it.", kept)
    assert finished_steps(team) == [3]


def test_a_worker_that_fails_alone_is_the_one_that_is_named(project):
    team = project()
    done = team.run("no_decomposition_on_worker_1")
    assert done.returncode == 1 and finished_steps(team) == [3]
    assert "train: worker 1 of 2 failed: train: step 5 (epoch 2): the covariance matrices are not finite" in done.stderr


def test_workers_with_other_data_are_refused(project):
    done = project().run("other_data_on_worker_1")
    assert done.returncode == 1
    assert "worker 1 of 'cpu' has other parameters, data, code or TensorFlow than worker 0" in done.stderr


def test_so_many_processes_as_the_parameters_say(project):
    team = project()
    horovodrun = str(Path(sys.executable).parent / "horovodrun")
    done = team.run(launcher=(sys.executable, horovodrun, "-np", "1", "--gloo"))
    assert done.returncode != 0
    assert "device 'cpu' has workers: 2, but this process was started as one of 1" in done.stderr
    assert json.loads((team.folder / "data/faces/classes.json").read_text())
