"""A small project in a Git repository of its own, for tests that run the pipeline as a user does."""

import csv
import os
import shutil
import subprocess

import numpy as np
import yaml
from PIL import Image

from covpool.config.vocabulary import CANONICAL
from tests.project import ROOT

#: One name in another script, which files, tables, the TensorFlow side and the report have to bear.
CLASSES = [*CANONICAL[:-1], "удивление"]

#: Small enough for seconds: six pictures a class and split, pictures of 48 pixels, average pooling, four steps.
SMALL = {
    "dataset.kind": "folder",
    "dataset.source": "pictures",
    "dataset.classes": CLASSES,
    "normalise.detector": "none",
    "normalise.size": 48,
    "normalise.margin": 2,
    "network.pooling": "average",
    "train.epochs": 2,
    "train.epoch_size": 2,
    "train.batch_size": 4,
}


def make_project(folder, changes=None, commit_pictures=True):
    """A copy of the project's files with pictures and links to the environments, committed; nothing has run."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, stdout=subprocess.PIPE)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and name not in ("dvc.lock", "reports/metrics.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    link_environments(folder)
    draw_pictures(folder / "pictures")
    change(folder, {**SMALL, **(changes or {})})
    git(folder, "init", "-q")
    if not commit_pictures:
        (folder / ".git/info/exclude").write_text("/pictures/\n")
    commit(folder, "start")
    return folder


def draw_pictures(folder):
    """Noise in a colour for each class: a task so easy that a few steps learn it."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number, name in enumerate(CLASSES):
            colour = [30 + 150 * (number >> bit & 1) for bit in range(3)]
            for index in range(6 if split == "train" else 2):
                path = folder / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 60, (60, 60, 3)) + colour
                Image.fromarray(pixels.astype(np.uint8)).save(path)


def link_environments(folder):
    for name in (".venv", ".venv-tf"):
        (folder / name).symlink_to((ROOT / name).resolve())


def change(project, changes):
    """Set values of params.yaml by their dotted keys; a key below device_options may be new."""
    path = project / "params.yaml"
    content = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *names, last = key.split(".")
        place = content
        for name in names:
            place = place[name]
        assert last in place or names == ["device_options"]
        place[last] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def git(folder, *arguments):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder, message):
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message)


def run(folder, *command, code=0):
    """What a command prints that is run in the project as by a user without our settings."""
    ours = ("DVC_", "COVPOOL_", "TF_BUILD")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    environment.update(
        DVC_NO_ANALYTICS="1",
        GIT_AUTHOR_NAME="test",
        GIT_AUTHOR_EMAIL="test@example.org",
        GIT_COMMITTER_NAME="test",
        GIT_COMMITTER_EMAIL="test@example.org",
    )
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def dvc(folder, *arguments, code=0):
    return run(folder, "stages/py", "-m", "dvc", *arguments, code=code)


def rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))
