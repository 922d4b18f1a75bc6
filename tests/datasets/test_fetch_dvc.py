"""The source as DVC sees it: a changed archive is noticed, an address does not stop it and is pinned by parameters."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.pipeline_project import change, dvc, make_project, rows


@pytest.fixture
def project(tmp_path):
    folder = make_project(tmp_path / "project")
    shutil.make_archive(str(folder / "faces"), "zip", folder / "pictures")
    return folder


@pytest.fixture
def served(project):
    """The address of the project's folder `served` on a server on loopback."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (project / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(project / "served"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/faces.zip"
        server.shutdown()
        thread.join()


def pictures(project):
    return len(rows(project / "data" / "raw" / "manifest.csv"))


def changed_stages(project):
    return set(json.loads(dvc(project, "status", "--json", "fetch")))


def add_a_picture(project):
    shutil.copy(project / "pictures/train/fear/0.png", project / "pictures/train/fear/added.png")
    shutil.make_archive(str(project / "faces"), "zip", project / "pictures")


def test_a_changed_archive_is_noticed(project):
    change(project, {"dataset.source": "faces.zip"})
    assert "fetch: 56 pictures (42 train, 14 val, 0 test)" in dvc(project, "repro", "fetch")
    assert not changed_stages(project)
    add_a_picture(project)
    assert changed_stages(project) == {"fetch"}
    assert "fetch: 57 pictures" in dvc(project, "repro", "fetch") and pictures(project) == 57


def test_an_address_is_fetched_and_its_revision_fetches_again(project, served):
    shutil.copy(project / "faces.zip", project / "served")
    change(project, {"dataset.source": "covpool/rendered", "dataset.url": served})
    shown = dvc(project, "repro", "fetch")
    assert "fetch: 56 pictures" in shown and "has the SHA-256" in shown and "Traceback" not in shown
    assert "didn't change" in dvc(project, "repro", "fetch") and not changed_stages(project)
    assert len(list((project / ".covpool/downloads").glob("*/faces.zip"))) == 1
    add_a_picture(project)
    shutil.copy(project / "faces.zip", project / "served")
    # DVC can't watch a server: the one who knows of the change says so.
    assert not changed_stages(project)
    change(project, {"dataset.revision": "with one more"})
    assert changed_stages(project) == {"fetch"}
    assert "fetch: 57 pictures" in dvc(project, "repro", "fetch")
