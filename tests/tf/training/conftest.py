"""Shared by the tests of training: parameters, and projects to train in."""

import pytest

from covpool.config import parse_params
from tests.tf.training import training_project
from tests.tf.training.training_project import Project, content_with

# The float64 network, against which the tests of the networks compare.


@pytest.fixture(scope="session")
def params_with():
    """params_with({dotted key: value}) -> params.Params of the small run, changed."""
    return lambda changes=None: parse_params(content_with(dict(training_project.SMALL, **(changes or {}))))


@pytest.fixture
def project(tmp_path):
    """project(changes) -> a Project of the small run in a new folder."""
    made = []

    def make(changes=None):
        folder = tmp_path / f"project-{len(made)}"
        made.append(Project(folder, changes))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The small run, trained once by the stage without any disturbance; and what the stage printed."""
    made = Project(tmp_path_factory.mktemp("finished") / "project")
    made.printed = made.run()
    assert made.printed.returncode == 0, made.printed.stderr
    return made
