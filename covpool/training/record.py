"""The record of a run: what it ran on, with what, how far, how well and how fast.

The comparison of devices rests on these records. So each carries a hash of itself (`artifacts.seal`), and never names a
device that the run did not have. The key of a run's working state comes from the same facts (`run_key.py`).
"""

import datetime
import subprocess
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from covpool import devices
from covpool.config import as_plain
from covpool.config.schedules import schedule_pairs
from covpool.devices import meter
from covpool.pipeline import artifacts
from covpool.pipeline.project import ROOT

#: What a run's result depends on of this package: what the stage `train` names in dvc.yaml.
CODE = (
    "config/plain.py",
    "config/schedules.py",
    "devices",
    "distributed",
    "networks",
    "pipeline/arrays.py",
    "pipeline/artifacts.py",
    "pipeline/cores.py",
    "pipeline/interpreter.py",
    "pipeline/project.py",
    "spd",
    "training",
)


def facts(params, device, root: Path) -> Dict:
    """What is known of a run before its first step.

    Args:
        params: a `config.Params`.
        device: a `devices.Device`.
        root: the folder in which the pipeline's artifacts lie.
    """
    faces = Path(root) / artifacts.FACES
    images = {
        split: len(artifacts.read_csv(faces / (split + ".csv")))
        for split in artifacts.SPLITS
        if (faces / (split + ".csv")).is_file()
    }
    return {
        "format": 1,
        "name": device.name,
        "kind": device.kind,
        "device": device.record,
        "tensorflow": devices.describe_tensorflow(),
        "host": devices.describe_host(),
        "parameters": {
            "dataset": {"kind": params.dataset.kind, "classes": list(params.dataset.classes)},
            # Not where it ran: nothing depends on that.
            "normalise": {
                "detector": params.normalise.detector,
                "size": params.normalise.size,
                "margin": params.normalise.margin,
                "min_score": params.normalise.min_score,
                "fallback": params.normalise.fallback,
            },
            "network": as_plain(params.network),
            "spd": as_plain(params.spd),
            # With the rates that a named schedule stands for.
            "train": dict(as_plain(params.train), schedule=as_plain(schedule_pairs(params.train.schedule))),
        },
        "data": {
            "hash": artifacts.faces_hash(faces),
            "kind": params.dataset.kind,
            "classes": list(params.dataset.classes),
            "images": images,
            "pretrained": params.train.pretrained_hash or None,
        },
        "code": {**_revision(), "hash": _code_hash()},
    }


def run_record(facts: Dict, params, trainer, files: Dict[str, str]) -> Dict:
    """The sealed record of a finished run.

    Args:
        facts: what `facts` gave.
        params: a `config.Params`.
        trainer: the `Trainer`, with its history and times.
        files: the hashes of the tables beside the record, by name.
    """
    last = trainer.history[-1]
    seconds = step_seconds(trainer.times)
    timed = _timed(trainer.times)
    return artifacts.seal(
        dict(
            facts,
            # In UTC: the report says when a run ended.
            finished=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            files=files,
            progress={
                "epochs": params.train.epochs,
                "epoch_size": params.train.epoch_size,
                "steps": trainer.step,
                "batch_size": trainer.global_batch,
                "resumed": trainer.resumed,
                # Of a loop on the device only the last step's loss and measures are seen, and averaged over an epoch.
                "steps_per_loss": trainer.device.steps_per_run,
                "learning_rates": _applied_rates(trainer.history),
            },
            loss={
                "total": last["loss"],
                "cross_entropy": last["cross_entropy"],
                "l2": last["l2_loss"],
                "center": last["center_loss"],
            },
            accuracy={
                "train": last["accuracy"],
                "val": last["val_accuracy"],
                "best_val": trainer.best["val_accuracy"],
                "best_epoch": trainer.best["epoch"],
            },
            speed={
                "seconds_per_step": seconds,
                "median": _rounded(np.median([row["seconds"] for row in timed])) if timed else None,
                "p90": _rounded(np.percentile([row["seconds"] for row in timed], 90)) if timed else None,
                "first_step": trainer.times[0]["seconds"],
                "start_up": _rounded(trainer.start_up),
                "waiting_share": _waiting_share(timed),
                "images_per_second": _rounded(trainer.global_batch / seconds) if seconds else None,
            },
            # Of the process, and of all that is in use on its device.
            memory={"peak_bytes": devices.peak_memory(), "device_peak_bytes": int(trainer.drawn.device_bytes) or None},
            energy=meter.energy(trainer.drawn, trainer.meter.source),
        )
    )


def _applied_rates(history):
    """[[first epoch, from 0; rate], ...] as applied, with what `train.scale_learning_rate` made of it."""
    rates = [row["learning_rate"] for row in history]
    return [[epoch, rate] for epoch, rate in enumerate(rates) if epoch == 0 or rate != rates[epoch - 1]]


def step_seconds(times: List[Dict]) -> Optional[float]:
    """Seconds per step as the Ascend port counts: the mean over the last epoch, each step with its wait for data.

    A loop on the device counts as its steps. Steps that also prepared a graph are left out; None if there are no
    others.

    Args:
        times: rows of `times.csv`.
    """
    timed = _timed(times)
    return _rounded(np.mean([row["seconds"] for row in timed if row["epoch"] == timed[-1]["epoch"]])) if timed else None


def _waiting_share(timed):
    """Share of the time that went into waiting for data; None where no step, or not its wait, was timed."""
    if not timed or timed[0]["waiting_seconds"] is None:
        return None
    return _rounded(sum(row["waiting_seconds"] for row in timed) / sum(row["seconds"] for row in timed))


def _timed(times):
    return [row for row in times if not row["warm_up"]]


def _rounded(value):
    return round(float(value), 6)


def _code_hash():
    package = ROOT / "covpool"
    files = [path for name in CODE for path in sorted((package / name).glob("**/*.py")) or [package / name]]
    return artifacts.content_hash([[str(path.relative_to(package)), artifacts.sha256_file(path)] for path in files])


def _revision():
    """Git's revision, and whether the code has changed since; nulls where git can't tell."""

    def git(*arguments):
        return subprocess.run(
            ("git",) + arguments,
            cwd=str(ROOT),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        revision = git("rev-parse", "HEAD")
        return {"revision": revision, "modified": bool(git("status", "--porcelain", "--", "covpool", "stages"))}
    except (OSError, subprocess.CalledProcessError):
        return {"revision": None, "modified": None}
