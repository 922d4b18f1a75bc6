"""A project's artifacts, made up: what the stages would leave behind for the report to read.

Figures follow from a seed and a few constants, so that tests can work out by themselves what a report should say.
"""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from covpool.pipeline import artifacts
from covpool.reporting import page

CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
SIZE = 112
EPOCHS, EPOCH_SIZE, BATCH = 12, 10, 32

#: name of a run: kind, its device, final loss, seconds a step
DEVICES = {
    "cpu": ("cpu", "Intel Xeon Platinum 8481C", 1.31, 0.62),
    "gpu": ("gpu", "NVIDIA H100 80GB HBM3", 1.25, 0.031),
    "npu": ("npu", "Ascend 910A", 1.19, 0.027),
}


def parameters():
    return {
        "dataset": {"kind": "rendered", "classes": list(CLASSES)},
        "normalise": {"detector": "mtcnn", "size": 100, "margin": 6, "min_score": 0.9, "fallback": "center"},
        "network": {
            "model_def": "covpoolnet2",
            "pooling": "covariance",
            "embedding_size": 128,
            "vectorise": "full",
            "normalisation": "per_image",
            "batch_norm_decay": 0.9,
        },
        "spd": {"method": "eigh", "epsilon": 1e-4, "maximum": 1e4},
        "train": {
            "epochs": EPOCHS,
            "epoch_size": EPOCH_SIZE,
            "batch_size": BATCH,
            "optimizer": "ADAM",
            "learning_rate": -1.0,
            "schedule": [[0, 0.001], [8, 0.0003]],
            "weight_decay": 0.0,
            "center_loss_factor": 0.0,
            "keep_probability": 0.5,
            "random_crop": True,
            "random_flip": True,
            "random_rotate": False,
            "nrof_preprocess_threads": 4,
            "pretrained_model": "",
            "log_histograms": False,
            "adam": {"beta1": 0.9, "epsilon": 1e-4},
        },
    }


class Project:
    """Writes artifacts below `root`."""

    def __init__(self, root, classes=CLASSES, counts=(("train", 8), ("val", 5))):
        self.root, self.classes = root, tuple(classes)
        self.rows = [
            {"path": f"{split}/{name}/{number:03d}.png", "split": split, "class": name}
            for split, many in counts
            for name in self.classes
            for number in range(many)
        ]
        self._write_data(counts)
        self.hash = artifacts.faces_hash(root / artifacts.FACES)

    def _write_data(self, counts):
        rejected = {
            "path": "train/odd.png",
            "split": "train",
            "class": self.classes[0],
            "status": "bad",
            "reason": "cannot be decoded",
        }
        manifest = [
            {**row, "status": "ok", "width": 176, "height": 176 + place % 3, "mode": "RGB"}
            for place, row in enumerate(self.rows)
        ]
        self.write_csv("data/validated/manifest.csv", artifacts.VALIDATED_COLUMNS, [*manifest, rejected])
        for split, _ in counts:
            rows = [row for row in self.rows if row["split"] == split]
            faces = np.stack([_face(self.classes.index(row["class"]), place) for place, row in enumerate(rows)])
            folder = self.root / artifacts.FACES
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{split}.npy", faces)
            self.write_csv(
                f"data/faces/{split}.csv",
                artifacts.FACES_COLUMNS,
                [
                    {
                        "label": self.classes.index(row["class"]),
                        "class": row["class"],
                        "source": row["path"],
                        "method": "mtcnn",
                        "score": 0.99,
                    }
                    for row in rows
                ],
            )
        self.write_json("data/faces/classes.json", list(self.classes))
        self.write_json(
            "data/normalise.json",
            {
                split: {
                    name: {"found": many - (place == 2), "fallback": int(place == 2), "dropped": 0}
                    for place, name in enumerate(self.classes)
                }
                | {"all": {"found": 0, "fallback": 0, "dropped": 0}}
                for split, many in counts
            },
        )
        sheets = self.root / "data" / "sheets"
        sheets.mkdir(parents=True)
        Image.fromarray(np.hstack([_face(2, number) for number in range(6)])).save(sheets / "worst.png")

    def write_csv(self, path, columns, rows):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def write_json(self, path, content):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")

    def add_run(self, name, kind=None, *, change=None, evaluate=True, seal=True, seed=0, skill=1.9, **figures):
        """A run with its record, history, times and evaluation; `change(record)` alters the record before its seal."""
        kind, device, loss, seconds = (kind or DEVICES[name][0], *DEVICES.get(name, DEVICES[kind or name])[1:])
        loss, seconds = figures.get("loss", loss), figures.get("seconds", seconds)
        rng = np.random.default_rng([seed, *name.encode()])
        history = _history(rng, loss)
        times = _times(rng, seconds)
        self.write_csv(f"runs/{name}/history.csv", artifacts.HISTORY_COLUMNS, history)
        self.write_csv(f"runs/{name}/times.csv", artifacts.TIMES_COLUMNS, times)
        record = self._record(name, kind, device, history, times)
        if change:
            change(record)
        self.write_json(f"runs/{name}/run.json", artifacts.seal(record) if seal else record)
        if evaluate:
            for split in ("val", "test"):
                if any(row["split"] == split for row in self.rows):
                    self.add_evaluation(name, rng, split, skill)
        return record

    def reseal(self, name):
        """Seal the record of a run and its evaluation again, after an edit that is not what a test is about."""
        for file in [self.root / f"runs/{name}/run.json", *self.root.glob(f"evaluation/{name}/*/scores.json")]:
            path = file.relative_to(self.root)
            if file.exists():
                content = json.loads((self.root / path).read_text(encoding="utf-8"))
                content["files"] = artifacts.file_hashes((self.root / path).parent, content["files"])
                self.write_json(path, artifacts.seal(content))

    def _record(self, name, kind, device, history, times):
        last = [row["seconds"] for row in times if row["epoch"] == EPOCHS]
        return {
            "format": 1,
            "name": name,
            "kind": kind,
            "files": artifacts.file_hashes(self.root / "runs" / name, ("history.csv", "times.csv")),
            "device": {"name": device, "count": 1, "driver": "550.54" if kind == "gpu" else None, "threads": 2},
            "tensorflow": {"version": "1.15.2", "build": "intel", "python": "3.7.17"},
            "host": {"cpu": "Intel Xeon Platinum 8481C", "cores": 2, "memory_bytes": 24 * 2**30, "system": "Linux"},
            "parameters": parameters(),
            "data": {
                "hash": self.hash,
                "kind": "rendered",
                "classes": list(self.classes),
                "pretrained": None,
                "images": {split: sum(row["split"] == split for row in self.rows) for split in ("train", "val")},
            },
            "code": {"revision": "3f2a9c1d", "modified": False, "hash": "5" * 64},
            "progress": {
                "epochs": EPOCHS,
                "epoch_size": EPOCH_SIZE,
                "steps": EPOCHS * EPOCH_SIZE,
                "batch_size": BATCH,
                "resumed": False,
            },
            "loss": {
                "total": history[-1]["loss"],
                "cross_entropy": history[-1]["cross_entropy"],
                "l2": 0.0,
                "center": 0.0,
            },
            "accuracy": {
                "train": history[-1]["accuracy"],
                "val": history[-1]["val_accuracy"],
                "best_val": 0.87,
                "best_epoch": 11,
            },
            "speed": {
                "seconds_per_step": float(np.mean(last)),
                "median": float(np.median(last)),
                "p90": float(np.percentile(last, 90)),
                "first_step": 4.2,
                "start_up": 6.5,
                "waiting_share": 0.021,
                "images_per_second": BATCH / float(np.mean(last)),
            },
            "memory": {"peak_bytes": 3 * 2**30 + 12345},
            "energy": {"joules": 18400.0 if kind == "gpu" else None, "seconds": 400.0},
        }

    def add_evaluation(self, name, rng, split="val", skill=1.9):
        """Scores and predictions of a split; the higher the skill, the more answers are correct."""
        rows = [row for row in self.rows if row["split"] == split]
        predictions, confusion = [], np.zeros((len(self.classes),) * 2, int)
        for row in rows:
            actual = self.classes.index(row["class"])
            logits = rng.normal(size=len(self.classes))
            logits[actual] += skill
            p = np.exp(logits) / np.exp(logits).sum()
            predicted = int(p.argmax())
            confusion[actual, predicted] += 1
            predictions.append(
                {
                    "source": row["path"],
                    "actual": row["class"],
                    "predicted": self.classes[predicted],
                    "confidence": repr(float(p.max())),
                    **{f"p_{other}": repr(float(value)) for other, value in zip(self.classes, p, strict=True)},
                }
            )
        per_class, hits = [], np.diag(confusion)
        for place, other in enumerate(self.classes):
            precision = hits[place] / max(1, confusion[:, place].sum())
            recall = hits[place] / max(1, confusion[place].sum())
            f1 = 2 * precision * recall / max(1e-9, precision + recall)
            per_class.append(
                {
                    "class": other,
                    "images": int(confusion[place].sum()),
                    "precision": float(precision),
                    "recall": float(recall),
                    "f1": float(f1),
                }
            )
        columns = artifacts.predictions_columns(self.classes)
        self.write_csv(f"evaluation/{name}/{split}/predictions.csv", columns, predictions)
        self.write_json(
            f"evaluation/{name}/{split}/scores.json",
            artifacts.seal(
                {
                    "split": split,
                    "checkpoint": "best",
                    "epoch": 11,
                    "images": len(rows),
                    "accuracy": float(hits.sum() / len(rows)),
                    "mean_class_accuracy": float(np.mean([row["recall"] for row in per_class])),
                    "macro_f1": float(np.mean([row["f1"] for row in per_class])),
                    "cross_entropy": 0.62,
                    "per_class": per_class,
                    "confusion": confusion.tolist(),
                    "classes": list(self.classes),
                    "files": artifacts.file_hashes(self.root / "evaluation" / name / split, ["predictions.csv"]),
                }
            ),
        )


def _face(place, number):
    """A disc on a gradient, its colour and height set by class and number."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    disc = ((x - 0.5) ** 2 + (y - 0.45 - 0.02 * place) ** 2) < 0.11
    ground = np.stack([x, y, 0.3 + 0.1 * np.full_like(x, number % 5)], -1)
    face = np.array([0.9, 0.4 + 0.08 * place, 0.3])
    return (255 * np.where(disc[..., None], face, 0.3 + 0.5 * ground)).astype(np.uint8)


def _history(rng, loss):
    rows = []
    for epoch in range(1, EPOCHS + 1):
        share = (epoch - 1) / (EPOCHS - 1)
        value = 2.1 + (loss - 2.1) * share**0.6 if epoch < EPOCHS else loss
        noise = float(rng.normal(0, 0.01)) if epoch < EPOCHS else 0.0
        rows.append(
            {
                "epoch": epoch,
                "steps": epoch * EPOCH_SIZE,
                "learning_rate": 0.001 if epoch <= 8 else 0.0003,
                "loss": value + noise,
                "cross_entropy": value + noise,
                "l2_loss": 0.0,
                "center_loss": 0.0,
                "accuracy": 0.15 + 0.7 * share,
                "val_cross_entropy": value + 0.1,
                "val_accuracy": 0.14 + 0.6 * share**1.4,
                "orthogonality": 2e-7 * (1 + share),
                "clipped": 0.002 * share,
                "condition": 900 * (1 + 4 * share),
            }
        )
    return rows


def _times(rng, seconds):
    """The first step is the one that prepares the graph."""
    rows = []
    for step in range(EPOCHS * EPOCH_SIZE):
        taken = seconds * (float(rng.gamma(60, 1 / 60)) + 50 * (step == 0))
        rows.append(
            {
                "epoch": 1 + step // EPOCH_SIZE,
                "step": step + 1,
                "steps": 1,
                "seconds": taken,
                "waiting_seconds": 0.02 * seconds,
                "warm_up": "true" if step == 0 else "false",
            }
        )
    return rows


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture(scope="session")
def make_project():
    return Project


@pytest.fixture
def no_page(monkeypatch):
    """The page takes most of the time, and has tests of its own."""
    monkeypatch.setattr(page, "render", lambda *_: "")
