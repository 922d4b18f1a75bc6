"""A small run: its parameters, its data, and a project folder in which the stages can run."""

import json
import os
import subprocess
import sys

import numpy as np
import yaml

from covpool.config import parse_params, read_yaml
from covpool.pipeline import artifacts
from covpool.training.trainer import Trainer
from tests.project import ROOT

CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")

#: A network and a run that take seconds; everything random is on.
SMALL = {
    "network.pooling": "average",
    "network.embedding_size": 8,
    "normalise.size": 48,
    "normalise.margin": 4,
    "train.epochs": 3,
    "train.epoch_size": 3,
    "train.batch_size": 6,
    "evaluate.batch_size": 6,
    "train.schedule": [[0, 0.002], [2, 0.001]],
    "train.weight_decay": 0.01,
    "train.center_loss_factor": 0.01,
    "train.nrof_preprocess_threads": 2,
    "train.keep_probability": 0.8,
}


def content_with(changes):
    """The content of the project's params.yaml with {dotted key: value} changed."""
    content = read_yaml(ROOT / "params.yaml")
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = content
        for section in sections:
            place = place[section]
        assert name in place, key
        place[name] = value
    return content


def write_faces(folder, counts, size=56, classes=CLASSES, seed=0):
    """A normalised data set: {split: number}; a class is a colour, and noise on top."""
    folder.mkdir(parents=True)
    rng = np.random.RandomState(seed)
    colours = rng.randint(60, 196, (len(classes), 1, 1, 3))
    for split, count in counts.items():
        labels = np.arange(count) % len(classes)
        noise = rng.randint(-60, 60, (count, size, size, 3))
        np.save(str(folder / (split + ".npy")), (colours[labels] + noise).astype(np.uint8))
        artifacts.write_csv(
            folder / (split + ".csv"),
            artifacts.FACES_COLUMNS,
            [
                {"label": int(label), "class": classes[label], "source": f"{split}/{number}.png"}
                for number, label in enumerate(labels)
            ],
        )
    artifacts.write_json(folder / "classes.json", list(classes))


def without_onednn(text):
    """What a stage wrote, without what TensorFlow 2 says on each start where it uses oneDNN; nothing turns that off."""
    return "".join(line for line in text.splitlines(True) if "absl::InitializeLog" not in line and "oneDNN" not in line)


class Project:
    """A folder with params.yaml and faces, in which stages run as a user runs them."""

    def __init__(self, folder, changes=None, device="cpu"):
        self.folder = folder
        self.device = device
        write_faces(folder / artifacts.FACES, {"train": 40, "val": 17})
        self.change(changes or {})
        self.environment = dict(os.environ, COVPOOL_TF_PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="1")
        self.environment.pop("DVC_ROOT", None)

    def change(self, changes):
        content = content_with(dict(SMALL, **changes))
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content))
        self.params = parse_params(content)

    def start(self):
        """The train stage, in a process that gives way to the one that watches it."""
        return subprocess.Popen(
            ("nice", str(ROOT / "stages" / "tf"), str(ROOT / "stages" / "train.py"), "--device", self.device),
            cwd=str(self.folder),
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self):
        process = self.start()
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, without_onednn(err))

    def trainer(self, events=False):
        """A trainer in this process."""
        return Trainer(
            self.params,
            self.device,
            self.folder,
            self.folder / ".covpool/training",
            self.folder / "tensorboard" / self.device if events else None,
        )

    def results(self):
        """What must be the same for equal runs, as bytes by name."""
        names = [f"runs/{self.device}/history.csv"] + [
            f"models/{self.device}/{name}"
            for name in (
                "best.index",
                "best.data-00000-of-00001",
                "last.index",
                "last.data-00000-of-00001",
                "model.json",
            )
        ]
        return {name: (self.folder / name).read_bytes() for name in names}

    def record(self):
        return json.loads((self.folder / "runs" / self.device / "run.json").read_text())

    def states(self):
        return sorted((self.folder / ".covpool/training").glob("*"))
