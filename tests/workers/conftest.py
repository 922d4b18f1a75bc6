"""Workers that really run: needs Horovod in TensorFlow's interpreter (`make test-workers`), and some minutes."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture
def project(tmp_path):
    """project(changes, workers=2) -> a `TeamProject` in a new folder."""
    from tests.workers.workers_project import TeamProject

    made = []

    def make(changes=None, workers=2):
        made.append(TeamProject(tmp_path / f"project-{len(made)}", workers, changes))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The small run on two workers by the stage, undisturbed; and what the stage printed."""
    from tests.workers.workers_project import TeamProject

    made = TeamProject(tmp_path_factory.mktemp("finished") / "project", 2)
    made.printed = made.run()
    assert made.printed.returncode == 0, made.printed.stderr
    return made
