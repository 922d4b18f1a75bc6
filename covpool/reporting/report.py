"""Writes `reports/`: the comparison for people and for programs, what DVC plots from, and the page."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from covpool.pipeline import artifacts
from covpool.reporting import charts, files, page
from covpool.reporting.comparison import compare
from covpool.reporting.exported import export_headlines
from covpool.reporting.runs import read_run

CURVES_COLUMNS = (
    "device",
    "epoch",
    "loss",
    "cross_entropy",
    "val_cross_entropy",
    "accuracy",
    "val_accuracy",
    "learning_rate",
)
STEP_TIMES_COLUMNS = (
    "device",
    "steps",
    "mean",
    "last_epoch_mean",
    "min",
    *(f"p{rank:02d}" for rank in charts.QUANTILES),
    "max",
)


#: One row per run, split, true and predicted class: how many pictures, and their share of the true class.
CONFUSION_COLUMNS = ("run", "actual", "predicted", "images", "share")


def build_report(root: Path | str, *, devices: Sequence[str], loss_tolerance: float) -> dict:
    """Write the report on the runs named in `devices` into `<root>/reports/`.

    It reads `runs/<run>/`, `evaluation/<run>/<split>/` and `data/` below `root`. A run that is missing or can't be
    trusted is left out, and the report says so. It writes `index.html` (one file), `comparison.json`, `.csv` and `.md`,
    `metrics.json`, `confusion.csv`, `curves.csv` and `step_times.csv`. Equal inputs give equal bytes.

    Args:
        root: The project's folder.
        devices: Names of the runs, each once.
        loss_tolerance: Share of the reference's loss by which another run's may differ (0.1: 10 %).

    Returns:
        The content of `comparison.json`.

    Raises:
        ValueError: If there is no run to report on, or the tolerance is not a share.
        ArtifactError: If the tables of the data set can't be read.
    """
    root, devices = Path(root), list(devices)
    if not devices or len(set(devices)) < len(devices):
        raise ValueError(f"devices must name each run once, and at least one, got {devices}.")
    if not 0 <= loss_tolerance < float("inf"):
        raise ValueError(f"loss_tolerance must be a share of the loss, 0 or more (0.1 is 10 %), got {loss_tolerance}.")
    runs = [read_run(root, name) for name in devices]
    comparison = compare(runs, loss_tolerance)
    html = page.render(root, runs, comparison)

    target = root / artifacts.REPORTS
    artifacts.write_json(target / "comparison.json", comparison)
    metrics = files.headline_metrics(comparison)
    for label, figures in export_headlines(root, runs).items():
        metrics.setdefault(label, {}).update(figures)
    artifacts.write_json(target / "metrics.json", metrics)
    artifacts.write_csv(target / "comparison.csv", files.CSV_COLUMNS, files.csv_rows(comparison))
    artifacts.write_csv(target / "confusion.csv", CONFUSION_COLUMNS, _confusion_rows(runs))
    artifacts.write_csv(target / "curves.csv", CURVES_COLUMNS, _curve_rows(runs))
    artifacts.write_csv(target / "step_times.csv", STEP_TIMES_COLUMNS, _step_time_rows(runs))
    for name, text in (("comparison.md", files.markdown_text(comparison)), ("index.html", html)):
        with artifacts.atomic_file(target / name) as stream:
            stream.write(text)
    return comparison


def _confusion_rows(runs):
    for run in runs:
        for split, evaluation in run.evaluations.items():
            names = evaluation.scores["classes"]
            for actual, counts in zip(names, evaluation.scores["confusion"], strict=True):
                for predicted, count in zip(names, counts, strict=True):
                    yield {
                        "run": f"{run.label}, {split}",
                        "actual": actual,
                        "predicted": predicted,
                        "images": count,
                        "share": round(count / sum(counts), 6) if sum(counts) else None,
                    }


def _curve_rows(runs):
    for run in runs:
        for row in run.history.to_dict("records"):
            # DVC's plots have no point for an empty cell.
            values = {key: None if pd.isna(row[key]) else row[key] for key in CURVES_COLUMNS[2:]}
            yield {"device": run.label, "epoch": int(row["epoch"]), **values}


def _step_time_rows(runs):
    return [{"device": run.label, **charts.step_quantiles(run)} for run in runs if len(run.times)]
