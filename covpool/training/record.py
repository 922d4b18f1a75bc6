"""The record of a run: its device, inputs, progress, accuracy and speed.

The comparison of devices uses these records. So each record carries a hash of itself (`artifacts.seal`), and names only
a device that the run had. The key of a run's working state is computed from the same facts (`run_key.py`).
"""

import datetime
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from covpool import devices
from covpool.config import as_plain
from covpool.config.schedules import schedule_pairs
from covpool.devices import meter
from covpool.pipeline import artifacts
from covpool.pipeline.project import ROOT

#: The parts of this package that a run's result depends on. The stage `train` in dvc.yaml names the same parts.
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


def facts(params: Any, device: devices.Device, root: Path) -> Dict[str, Any]:
    """Collect the facts that are known before a run's first step.

    Args:
        params: a `config.Params`.
        device: the device of the run.
        root: the folder in which the pipeline's artifacts lie.

    Returns:
        Plain values for JSON, the first part of the run's record.

    Raises:
        ArtifactError: the data can't be read.
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
            # Without `scheduler`, because the result does not depend on where the detector runs.
            "normalise": {
                "detector": params.normalise.detector,
                "size": params.normalise.size,
                "margin": params.normalise.margin,
                "min_score": params.normalise.min_score,
                "fallback": params.normalise.fallback,
            },
            "network": as_plain(params.network),
            "spd": as_plain(params.spd),
            # A named schedule is replaced by its learning rates.
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


def run_record(facts: Dict[str, Any], params: Any, trainer: Any, files: Dict[str, str]) -> Dict[str, Any]:
    """Build the sealed record of a finished run.

    Args:
        facts: the result of the function `facts`.
        params: a `config.Params`.
        trainer: the `Trainer`, with its history and times.
        files: the hashes of the tables beside the record, by file name.

    Returns:
        The record, plain values for JSON.
    """
    last = trainer.history[-1]
    seconds = step_seconds(trainer.times)
    timed = _timed(trainer.times)
    return artifacts.seal(
        dict(
            facts,
            # In UTC. The report shows when a run ended.
            finished=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            files=files,
            progress={
                "epochs": params.train.epochs,
                "epoch_size": params.train.epoch_size,
                "steps": trainer.step,
                "batch_size": trainer.global_batch,
                "resumed": trainer.resumed,
                # A loop on the device returns the loss and the measures of its last step only. The averages over an
                # epoch use these.
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
            # The memory of this process, and all memory that is in use on its device.
            memory={"peak_bytes": devices.peak_memory(), "device_peak_bytes": int(trainer.drawn.device_bytes) or None},
            energy=meter.energy(trainer.drawn, trainer.meter.source),
        )
    )


def _applied_rates(history):
    """List the applied rates as [[first epoch, counted from 0; rate], ...], after `train.scale_learning_rate`."""
    rates = [row["learning_rate"] for row in history]
    return [[epoch, rate] for epoch, rate in enumerate(rates) if epoch == 0 or rate != rates[epoch - 1]]


def step_seconds(times: List[Dict]) -> Optional[float]:
    """Compute the seconds per step in the same way as the Ascend port.

    This is the mean over the last epoch. The time of a step includes its wait for data. A loop on the device counts as
    the number of its steps. Warm-up steps, which also prepare the graph, are left out.

    Args:
        times: the rows of `times.csv`.

    Returns:
        Seconds per step; None if there are only warm-up steps.
    """
    timed = _timed(times)
    return _rounded(np.mean([row["seconds"] for row in timed if row["epoch"] == timed[-1]["epoch"]])) if timed else None


def _waiting_share(timed):
    """Compute the share of the time spent waiting for data; None if no step or no wait was timed."""
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
    """Return git's revision, and whether the code has changed since. Both are None if git fails."""

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
