"""The working state: whole or not at all, one writer, and clear words when the disk or a file is bad."""

import errno
import json
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool.training import state
from covpool.training.state import StateError, WorkingState
from tests.tf.training import training_project


class Values:
    """One variable in a session, as a stand-in for a network's."""

    def __init__(self):
        self.variable = tf.get_variable("w", [50000], initializer=tf.zeros_initializer(), use_resource=True)
        self.saver = tf.train.Saver([self.variable], max_to_keep=None)
        self.session = tf.Session()

    def set(self, number):
        self.variable.load(np.full(50000, number, np.float32), self.session)

    def get(self):
        found = set(self.session.run(self.variable))
        assert len(found) == 1
        return found.pop()

    def write_best(self, session, prefix):
        for ending in ("index", "data"):
            (prefix.parent / (prefix.name + "." + ending)).write_text(f"best of {self.get()}")


@pytest.fixture
def values():
    made = Values()
    yield made
    made.session.close()


def save(work, values, step, best=None):
    values.set(step)
    if best == step:
        work.save_best(values.session, values.write_best, best)
    work.save(values.session, values.saver, step, {"step": step, "best": best and {"epoch": best}})


def restored(folder, values):
    values.set(-1)
    with WorkingState(folder) as work:
        progress = work.restore(values.session, values.saver)
    return progress and (progress["step"], values.get())


def test_the_newest_state_comes_back_and_the_one_before_is_kept(tmp_path, values):
    folder = tmp_path / "cpu-key"
    assert restored(folder, values) is None
    with WorkingState(folder) as work:
        for step in (1, 2, 3, 4):
            save(work, values, step, best=min(step, 2))
        assert work.newest_step() == 4
    assert sorted(path.name for path in folder.iterdir()) == [
        "best-0002.data",
        "best-0002.index",
        "lock",
        "step-00000003",
        "step-00000004",
    ]
    assert restored(folder, values) == (4, 4.0)
    with WorkingState(folder) as work:
        assert [path.read_text() for path in work.best_files(2)] == ["best of 2.0"] * 2
        work.finish()
    assert sorted(path.name for path in folder.iterdir()) == [
        "best-0002.data",
        "best-0002.index",
        "finished",
        "lock",
        "step-00000004",
    ]
    state.forget(tmp_path, "cpu", "other")
    assert folder.exists()
    state.forget(tmp_path, "cpu", "key")
    assert not folder.exists()


def damages():
    def truncate(place):
        data = next(place.glob("variables.data*"))
        os.truncate(str(data), data.stat().st_size // 2)

    def flip(place):
        data = next(place.glob("variables.data*"))
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(bytes(content))

    def empty_index(place):
        (place / "variables.index").write_bytes(b"")

    def drop_progress(place):
        (place / "progress.json").unlink()

    def cut_progress(place):
        os.truncate(str(place / "progress.json"), 20)

    def drop_best(place):
        (place.parent / "best-0002.data").unlink()

    return [truncate, flip, empty_index, drop_progress, cut_progress, drop_best]


@pytest.mark.parametrize("damage", damages(), ids=lambda each: each.__name__)
def test_a_damaged_state_is_told_and_the_one_before_is_taken(tmp_path, values, damage, capsys):
    folder = tmp_path / "cpu-key"
    with WorkingState(folder) as work:
        save(work, values, 1, best=1)
        save(work, values, 2, best=2)
    damage(folder / "step-00000002")
    assert restored(folder, values) == (1, 1.0)
    assert "step-00000002 is damaged and will be skipped" in capsys.readouterr().out
    assert restored(folder, values) == (1, 1.0)
    assert capsys.readouterr().out == ""


def test_a_state_that_was_being_written_is_cleared_away(tmp_path, values):
    folder = tmp_path / "cpu-key"
    with WorkingState(folder) as work:
        save(work, values, 1)
    (folder / "step-00000002.writing").mkdir()
    (folder / "step-00000002.writing" / "variables.index").write_bytes(b"half")
    assert restored(folder, values) == (1, 1.0)
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "step-00000001"]


def test_a_state_holds_the_variables_and_the_progress_and_nothing_else(tmp_path, values):
    with WorkingState(tmp_path / "cpu-key") as work:
        assert work.newest_step() is None
        save(work, values, 1)
        assert work.newest_step() == 1
    files = {path.name.split("-of-")[0] for path in (tmp_path / "cpu-key" / "step-00000001").iterdir()}
    # Neither a graph nor TensorFlow's `checkpoint` file, which would hold absolute paths.
    assert files == {"variables.index", "variables.data-00000", "progress.json"}


@pytest.mark.parametrize(
    "error, advice",
    [
        (tf.errors.ResourceExhaustedError(None, None, "f.data: No space left on device"), "free some space"),
        (OSError(errno.ENOSPC, "quite full"), "free some space"),
        (tf.errors.PermissionDeniedError(None, None, "f.data: Permission denied"), "make the folder writable"),
    ],
)
def test_a_full_disk_is_told_from_a_folder_without_permission(tmp_path, monkeypatch, error, advice):
    """TensorFlow's errors have no errno; the free space is in MB of 2^20 bytes."""
    usage = state.shutil.disk_usage(str(tmp_path))._replace(free=5 * 2**20 + 7)
    monkeypatch.setattr(state.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StateError, match=f" 5 MB are free there; {advice}"):
        with state.writing(tmp_path / "absent", "the state"):
            raise error


def test_saving_the_same_step_again_never_takes_the_state_away(tmp_path, values, monkeypatch):
    with WorkingState(tmp_path / "cpu-key") as work:
        save(work, values, 1)
        monkeypatch.setattr(state, "_remove", lambda path: pytest.fail(f"removed {path}"))
        save(work, values, 1)


@pytest.mark.parametrize(
    "number, word", [(errno.ENOSPC, "free some space"), (errno.EACCES, "make the folder writable")]
)
def test_a_disk_that_takes_no_more_keeps_the_last_good_state(tmp_path, values, monkeypatch, number, word):
    folder = tmp_path / "cpu-key"
    with WorkingState(folder) as work:
        save(work, values, 1, best=1)

        def full(path):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(state, "_flush", full)
            with pytest.raises(StateError, match=word) as message:
                save(work, values, 2, best=1)
        assert os.strerror(number) in str(message.value) and "MB are free" in str(message.value)
        assert "last good state is kept" in str(message.value)
    assert restored(folder, values) == (1, 1.0)
    assert not list(folder.glob("*.writing"))


def test_tensorflows_own_error_of_writing_is_told(tmp_path, values):
    """A limit on the size of files, which the kernel enforces as it would a full disk."""
    script = """
        import resource
        from tests.tf.training import test_training_state as t
        values = t.Values()
        with t.WorkingState({folder!r}) as work:
            t.save(work, values, 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
            try:
                t.save(work, values, 2)
            except t.StateError as error:
                print(error)
    """.format(folder=str(tmp_path / "cpu-key"))
    graph_mode = "import tensorflow.compat.v1 as tf; tf.disable_v2_behavior()\n"
    found = subprocess.run(
        [sys.executable, "-c", graph_mode + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(training_project.ROOT)),
    )
    assert "could not be written" in found.stdout, found.stderr
    assert "\n" not in found.stdout.strip()
    assert restored(tmp_path / "cpu-key", values) == (1, 1.0)


def test_a_second_writer_waits_and_the_first_is_not_disturbed(tmp_path, values, capsys):
    folder = tmp_path / "cpu-key"
    order = []

    def second():
        with WorkingState(folder) as work:
            order.append(("second", work.newest_step()))

    waiting = threading.Thread(target=second)
    with WorkingState(folder) as work:
        save(work, values, 1)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        save(work, values, 2)
        order.append(("first", work.newest_step()))
    waiting.join(30)
    assert order == [("first", 2), ("second", 2)]
    assert "Another process is training this run" in capsys.readouterr().out
    assert restored(folder, values) == (2, 2.0)


def test_a_lock_whose_file_was_taken_away_is_not_held(tmp_path, monkeypatch):
    """The holder removes the folder on its way out: who waited with the old file open must take a new one."""
    path = tmp_path / "cpu-key" / "lock"
    opened, lock = [], state.fcntl.flock

    def removed_in_between(stream, how):
        opened.append(stream)
        if len(opened) == 1:
            path.unlink()
        lock(stream, how)

    monkeypatch.setattr(state.fcntl, "flock", removed_in_between)
    with state.only_writer(path):
        assert len(opened) == 2 and opened[0].closed
        monkeypatch.undo()
        with pytest.raises(StateError):
            with state.only_writer(path, wait=False):
                pytest.fail("both were let in")


def test_a_folder_that_can_not_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="could not be written"):
        with WorkingState(tmp_path / "file" / "cpu-key"):
            pytest.fail("a folder below a file")


def test_other_states_of_the_run_are_found_by_name(tmp_path, values):
    for name in ("cpu-aaaa", "cpu-bbbb", "cpu-big-cccc", "npu-dddd"):
        with WorkingState(tmp_path / name) as work:
            save(work, values, 1)
    with WorkingState(tmp_path / "cpu-aaaa") as work:
        folders, size = work.others()
    assert folders == [tmp_path / "cpu-bbbb"] and 200000 < size < 220000


def test_progress_comes_back_as_it_was_given(tmp_path, values):
    folder = tmp_path / "cpu-key"
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 2**53 + 1]
    values.set(0)
    with WorkingState(folder) as work:
        work.save(values.session, values.saver, 0, {"step": 0, "best": None, "history": numbers})
    assert json.loads((folder / "step-00000000/progress.json").read_text())["history"] == numbers
