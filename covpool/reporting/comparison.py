"""The comparison of runs as data: what `reports/comparison.json` contains.

Runs that did the same work (`work`) are measured against the reference: the first GPU among the runs, as in the Ascend
port's tables, or else the first CPU, or else the first NPU. A run that did other work is listed with the reasons, and
without ratios or a verdict. Published figures are never compared with a run: nothing shows that both did the same work.
"""

from collections.abc import Sequence

from covpool.reporting import accuracy, published_conditions, verdict, wording, work
from covpool.reporting.published import published_training
from covpool.reporting.runs import Evaluation, Run

#: Figures of a run in the comparison: key -> path in its record.
RECORDED = {
    "loss": "loss.total",
    "cross_entropy": "loss.cross_entropy",
    "l2_loss": "loss.l2",
    "center_loss": "loss.center",
    "train_accuracy": "accuracy.train",
    "val_accuracy": "accuracy.val",
    "best_val_accuracy": "accuracy.best_val",
    "best_epoch": "accuracy.best_epoch",
    "seconds_per_step": "speed.seconds_per_step",
    "median_seconds": "speed.median",
    "p90_seconds": "speed.p90",
    "first_step_seconds": "speed.first_step",
    "start_up_seconds": "speed.start_up",
    "waiting_share": "speed.waiting_share",
    "images_per_second": "speed.images_per_second",
    "peak_bytes": "memory.peak_bytes",
    "device_peak_bytes": "memory.device_peak_bytes",
}
#: Scores of a split in the comparison: the same keys as in `scores.json`.
SCORES = (
    "checkpoint",
    "epoch",
    "images",
    "accuracy",
    "mean_class_accuracy",
    "macro_f1",
    "cross_entropy",
)


def compare(runs: Sequence[Run], loss_tolerance: float) -> dict:
    """Compare runs.

    Args:
        runs: The runs in the order of `devices`.
        loss_tolerance: Share of the reference's loss by which another run's may differ.

    Returns:
        The content of `comparison.json`: `reference` (the name of the run that the others are measured against, or
        None), `runs` (one entry each: status, settings, figures, evaluations, comparability, ratios, verdict) and
        `published`.
    """
    reference = work.reference_run(runs)
    works = work.number_works(runs, reference)
    return {
        "format": 2,
        "loss_tolerance": loss_tolerance,
        "reference": reference.name if reference else None,
        "runs": [_entry(run, works.get(run.name), reference, loss_tolerance) for run in runs],
        "published": _published(),
    }


def _entry(run, number, reference, tolerance):
    entry = {"name": run.name, "label": run.label, "title": run.title, "status": run.status, "reason": run.reason}
    if not run.usable:
        return entry
    entry.update(
        kind=run.kind,
        device=wording.device_text(run),
        tensorflow=wording.tensorflow_text(run),
        arithmetic=wording.arithmetic_text(run),
        finished=run.value("finished"),
        work=number,
        settings=_settings(run),
        figures={key: run.value(path) for key, path in RECORDED.items()}
        | {
            "joules": run.joules,
            "joules_per_image": run.joules_per_image,
            "training_seconds": run.training_seconds,
        },
        evaluations={split: _scores(run, evaluation) for split, evaluation in run.evaluations.items()},
        differs_from_published=published_conditions.differs_from_published(run),
        notes=list(run.notes),
        comparable=None,
        differences=[],
        remarks=[],
        against_reference=None,
        verdict=None,
    )
    if run is not reference:
        entry["differences"] = work.differences(run, reference)
        entry["comparable"] = not entry["differences"]
        entry["remarks"] = work.remarks(run, reference)
    if entry["comparable"]:
        entry["against_reference"] = verdict.ratios(run, reference)
        entry["verdict"] = verdict.loss_verdict(run, reference, tolerance)
    return entry


def _scores(run: Run, evaluation: Evaluation):
    scores = evaluation.scores
    return {key: scores[key] for key in SCORES} | {
        "interval": list(accuracy.wilson_interval(scores["accuracy"], scores["images"])),
        "chance": accuracy.chance_level(scores),
        "role": wording.split_role(scores["split"], scores["checkpoint"], run.value("data.kind")),
    }


def _settings(run):
    """What a reader needs to know of a run's work: network, data, length and batch."""
    return {
        "model": run.value("parameters.network.model_def"),
        "pooling": run.value("parameters.network.pooling"),
        "embedding_size": run.value("parameters.network.embedding_size"),
        "logarithm": run.value("parameters.spd.method"),
        "normalisation": run.value("parameters.network.normalisation"),
        "image_size": run.value("parameters.normalise.size"),
        "optimizer": run.value("parameters.train.optimizer"),
        "learning_rate": wording.run_rate_text(run),
        "data": run.value("data.kind"),
        "data_hash": run.value("data.hash"),
        "images": run.value("data.images"),
        **{key: run.value(f"progress.{key}") for key in ("epochs", "epoch_size", "steps", "batch_size")},
    }


def _published():
    return [
        {
            "kind": kind,
            "device": figures["loss"].device,
            "loss": figures["loss"].value,
            "seconds_per_step": figures["seconds_per_step"].value,
            # Not published as such: the batch over its time.
            "images_per_second": figures["loss"].batch_size / figures["seconds_per_step"].value,
            **{key: getattr(figures["loss"], key) for key in ("model", "data", "epochs", "epoch_size", "batch_size")},
            "source": figures["loss"].source,
        }
        for kind, figures in ((kind, published_training(kind)) for kind in ("npu", "gpu"))
    ]
