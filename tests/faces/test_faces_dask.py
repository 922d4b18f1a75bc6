"""The same bytes from a Dask cluster as from this machine, also when one of its workers is killed on the way."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from covpool.faces import NormaliseError, PictureError, dask_workers, normalise_dataset
from covpool.pipeline.process_pool import WorkerDied

ROOT = Path(__file__).parents[2]
CLASSES = ("anger", "happiness", "surprise")


@contextlib.contextmanager
def cluster_of(count: int):
    """A scheduler in this process and workers in processes of their own, which nobody starts again."""
    distributed = pytest.importorskip("distributed", reason="the extra for clusters is not installed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as local:
        command = [
            sys.executable,
            "-m",
            "distributed.cli.dask_worker",
            local.scheduler_address,
            "--no-nanny",
            "--nthreads",
            "1",
            "--no-dashboard",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        workers = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for _ in range(count)]
        try:
            with distributed.Client(local, set_as_default=False) as client:
                client.wait_for_workers(count, timeout=60)
            yield local.scheduler_address, workers
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler with one worker."""
    with cluster_of(1) as (address, _):
        yield address


def normalise(dataset, name: str, **options):
    folder = dataset.root / name
    options = {"classes": CLASSES, "size": 40, "margin": 3, **options}
    counts = normalise_dataset(dataset.manifest, dataset.images, folder, dataset.root / f"{name}_sheets", **options)
    written = [*folder.iterdir(), *(dataset.root / f"{name}_sheets").iterdir()]
    return counts, {path.name: path.read_bytes() for path in written}


def test_a_killed_worker_changes_nothing(faces):
    originals = [(row, np.array(Image.open(faces.images / row["path"]))) for row in faces.rows]
    for number in range(48):
        row, picture = originals[number % 12]
        picture[0, 0] = number
        faces.add(f"{row['split']}/{row['class']}/more_{number}.png", picture)
    seen, cache = [], faces.root / "cache"
    with cluster_of(2) as (address, workers):

        def kill_one(done, total):
            seen.append(done)
            if done == 12:
                workers[0].kill()

        there = normalise(faces, "there", scheduler=address, cache=cache, progress=kill_one)
        assert workers[0].poll() is not None and workers[1].poll() is None
    assert seen == list(range(1, 61))
    assert len(list(cache.rglob("*.json"))) == 60, "what the workers found is kept"
    assert there == normalise(faces, "here", workers=1, cache=cache)


def test_an_error_on_a_worker_comes_back_by_name(dataset, noise, scheduler):
    dataset.add("train/anger/good.png", noise(1))
    dataset.add("train/anger/broken.png", b"no picture")
    with pytest.raises(PictureError, match=r"train/anger/broken\.png: not a picture in a known format"):
        normalise(dataset, "faces", detector="none", scheduler=scheduler)
    assert not list((dataset.root / "faces").iterdir())


def test_workers_of_another_project_are_refused(dataset, noise, scheduler, monkeypatch):
    dataset.add("train/anger/a.png", noise(1))
    other = dict(dask_workers.fingerprint(), opencv="1.0")
    monkeypatch.setattr(dask_workers, "fingerprint", lambda: other)
    with pytest.raises(NormaliseError, match="the Dask worker on .* expected opencv 1.0, got "):
        normalise(dataset, "faces", detector="none", scheduler=scheduler)


def test_a_picture_that_kills_every_worker_is_told(dataset, noise, scheduler, monkeypatch):
    distributed = pytest.importorskip("distributed")

    def killed(submit, rows, ahead):
        raise distributed.KilledWorker("picture", SimpleNamespace(address="tcp://10.0.0.2:9"), 3)
        yield

    dataset.add("train/anger/a.png", noise(1))
    monkeypatch.setattr(dask_workers, "in_order", killed)
    with pytest.raises(WorkerDied, match="several workers died on the same picture"):
        normalise(dataset, "faces", detector="none", scheduler=scheduler)


def test_a_scheduler_that_does_not_answer_is_told(dataset, noise, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_workers, "PATIENCE", 0.5)
    dataset.add("train/anger/a.png", noise(1))
    with pytest.raises(NormaliseError, match="normalise.scheduler: no Dask scheduler .* at tcp://127.0.0.1:9 "):
        normalise(dataset, "faces", detector="none", scheduler="tcp://127.0.0.1:9")


def test_the_missing_package_is_told(dataset, noise, monkeypatch):
    dataset.add("train/anger/a.png", noise(1))
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "distributed" else find(name))
    with pytest.raises(NormaliseError, match="needs the package distributed.*pip install -c requirements/py-test.txt"):
        normalise(dataset, "faces", detector="none", scheduler="tcp://127.0.0.1:9")
