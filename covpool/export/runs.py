"""Exports a run of the pipeline: what params.yaml and the artifacts say about it."""

from __future__ import annotations

from pathlib import Path

from covpool.config import load_params, run_options
from covpool.export.exporting import MODEL_FILE, ExportError, Request, export
from covpool.pipeline import artifacts, interpreter


def request(
    run: str, which: str | None = None, weights: str = "", faces: Path | None = None, target: Path | None = None
) -> tuple[Request, Path]:
    """What to export of a trained run, and the folder to write to.

    Args:
        run: its name.
        which: `best` or `last`; None: `evaluate.checkpoint`.
        weights: `float32` or `float16`; "": `export.weights`.
        faces: folder of normalised faces; None: `data/faces`.
        target: folder; None: `exports/<run>`.

    Raises:
        ExportError: there is no such trained run.
        ParamsError: params.yaml is wrong, or has no such run.
    """
    params = load_params()
    options = run_options(params, run, "covpool export")
    folder = artifacts.MODELS / run
    if not (folder / "model.json").is_file():
        raise ExportError(f"{folder} has no trained network: run `dvc repro train@{run}` first")
    which = which or params.evaluate.checkpoint
    model = artifacts.read_json(folder / "model.json")
    crop = {
        "detector": params.normalise.detector,
        "size": model["image_size"],
        "margin": params.normalise.margin,
        "min_score": params.normalise.min_score,
    }
    context = {"name": run, "data": _data(params.dataset.kind), "counts": _counts(), "scores": _scores(run)}
    return (
        Request(
            ("--model", str(folder.resolve()), "--which", which),
            tuple(model["classes"]),
            crop,
            weights or params.export.weights,
            faces or artifacts.FACES,
            context,
            interpreter.environment(run, options),
        ),
        target or artifacts.EXPORTS / run,
    )


def export_run(run: str) -> dict:
    """The stage `export`: export a run, and write the main figures to `exports/<run>.json`. Returns the record."""
    asked, target = request(run)
    record = export(asked, target)
    names = ("bytes", "largest_difference", "ms_per_face_batch_1", "ms_per_face_batch_16")
    figures = {"exported": int(record["exported"]), **{name: record[name] for name in names}}
    artifacts.write_json(artifacts.EXPORTS / f"{run}.json", figures)
    return record


def sentence(path: Path, record: dict) -> str:
    """One line about an exported network."""
    return (
        f"{path}: {record['bytes'] / 1e6:.1f} MB, largest difference of a probability from TensorFlow "
        f"{record['largest_difference']:.1e} on {record['faces']} faces, {record['same_class']} with the same class, "
        f"{record['ms_per_face_batch_1']} ms per face"
    )


def report(run: str, record: dict) -> str:
    """What the stage says at its end."""
    if record["exported"]:
        return f"export: {sentence(artifacts.EXPORTS / run / MODEL_FILE, record)}"
    return f"export: {run}: no model was written: {'; '.join(record['reasons'])}"


def _data(kind):
    return "drawn faces (dataset.kind rendered)" if kind == "rendered" else f"dataset.kind {kind}"


def _counts():
    """{split: faces} of the normalised data set."""
    tables = {split: artifacts.FACES / f"{split}.csv" for split in artifacts.SPLITS}
    return {split: len(artifacts.read_csv(path)) for split, path in tables.items() if path.is_file()}


def _scores(run):
    """{split: content of its scores.json} of the run's evaluation, as far as there is one."""
    paths = {split: artifacts.EVALUATION / run / split / "scores.json" for split in artifacts.SPLITS}
    return {split: artifacts.read_json(path) for split, path in paths.items() if path.is_file()}
