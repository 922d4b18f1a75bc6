"""kill -9 at any moment, and the run ends with the same bytes: the stage as DVC starts it."""

import random
import shutil
import signal
import time

import pytest

from tests.tf.training import training_project

#: More epochs than the small run has, so that there is something to interrupt; still seconds.
LONG = {"train.epochs": 6, "train.epoch_size": 2}


def kill_when(process, reached, number=signal.SIGKILL, patience=120):
    """Send the signal as soon as `reached()`; the process's output, once it is gone."""
    end = time.monotonic() + patience
    while not reached():
        assert process.poll() is None, "ended before it could be killed: " + process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.0005)
    process.send_signal(number)
    return process.communicate(timeout=patience)


def finished_steps(project):
    return [int(path.name[5:]) for state in project.states() for path in state.glob("step-????????")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    project = training_project.Project(tmp_path_factory.mktemp("undisturbed") / "project", LONG)
    project.trainer().run()
    return project


def moments(project, rng):
    """What is waited for before each kill, in turn."""
    folder = project.folder

    def later(seconds, event):
        seen = []

        def reached():
            if not seen and event():
                seen.append(time.monotonic())
            return bool(seen) and time.monotonic() > seen[0] + seconds

        return reached

    def beyond(step):
        return lambda: max(finished_steps(project), default=0) >= step

    return {
        "in the first epoch": later(rng.uniform(0, 0.3), lambda: (folder / ".covpool/cpu.lock").exists()),
        "while a state is written": lambda: any(folder.glob(".covpool/training/*/step-*.writing/variables.data*")),
        "at a random time": later(rng.uniform(0, 0.4), beyond(6)),
        "while the outputs are written": lambda: (folder / "models/cpu/last.index").exists(),
    }


def test_killed_at_random_moments_it_ends_with_the_same_bytes(undisturbed, project):
    rng = random.Random(time.time())  # other moments each time; the result must not depend on them
    victim = project(LONG)
    for moment, reached in moments(victim, rng).items():
        process = victim.start()
        kill_when(process, reached)
        assert process.returncode == -signal.SIGKILL, moment
        shutil.rmtree(str(victim.folder / "models"), ignore_errors=True)  # as DVC does before it runs a stage again
    before = max(finished_steps(victim))
    assert before == 12, "the last kill came after the last epoch"
    found = victim.run()
    assert found.returncode == 0 and found.stderr == ""
    assert found.stdout == "All 12 steps are done already: writing the results from the state that was kept.\n"
    assert victim.results() == undisturbed.results()
    assert victim.record()["progress"]["resumed"] is True


def test_a_restart_resumes_from_the_last_finished_epoch_past_a_torn_state(undisturbed, project):
    """SIGTERM in the run, then the newest state is torn: the one before is taken, and the end is the same."""
    victim = project(LONG)
    process = victim.start()
    out, err = kill_when(process, lambda: len(finished_steps(victim)) >= 2, signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    last = max(finished_steps(victim))
    assert training_project.without_onednn(err) == (
        f"train: interrupted after step {last} of 12; run the same command again to resume there.\n"
    )
    state = victim.states()[0]
    data = next((state / f"step-{last:08d}").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[:-100])
    one_before = sorted(finished_steps(victim))[-2]
    found = victim.run()
    assert found.returncode == 0
    message, going_on = found.stdout.splitlines()[:2]
    assert "is damaged and will be skipped" in message and going_on == f"Resuming at step {one_before} of 12."
    assert victim.results() == undisturbed.results()


def test_with_covariance_pooling_too(project):
    """The real network: killed while it writes its second state, and compared with a run left alone."""
    changes = {
        "network.pooling": "covariance",
        "network.vectorise": "upper",
        "train.optimizer": "MOM",
        "train.epochs": 2,
        "train.epoch_size": 2,
        "train.moving_average_decay": 0,
    }
    alone, victim = project(changes), project(changes)
    alone.trainer().run()
    writing = ".covpool/training/*/step-00000004.writing/variables.data*"
    kill_when(victim.start(), lambda: any(victim.folder.glob(writing)))
    assert finished_steps(victim) == [2]
    found = victim.run()
    assert found.returncode == 0 and found.stdout.startswith("Resuming at step 2 of 4.\n")
    assert victim.results() == alone.results()
