"""Scores splits with a trained network, and writes the files that the report and DVC read."""

from pathlib import Path
from typing import Any, Optional

from covpool import devices
from covpool.networks.checkpoints import CheckpointError
from covpool.pipeline import artifacts
from covpool.training import input_pipeline, metrics
from covpool.training.score import open_model, read_model


def evaluate(params: Any, name: str, root: Path) -> dict:
    """Evaluate a trained run on the splits that `evaluate.splits` names.

    Each split gets a folder `evaluation/<name>/<split>/` with `predictions.csv` (a row for each picture), `scores.json`
    (all measures, sealed, with the hash of `predictions.csv`) and `confusion.csv` (the confusion matrix). A split that
    the data set does not have is skipped, and a line says so.

    Args:
        params: a `config.Params`.
        name: the run, as in `params.devices`.
        root: the folder in which the pipeline's artifacts lie.

    Returns:
        `{split: content of its scores.json}`.

    Raises:
        ArtifactError: the data set has none of the splits, is not what the run was trained on, or can't be read.
        CheckpointError: the model is damaged; the message says what to do.
        DeviceError: the run's device can't be opened.
    """
    root = Path(root)
    wanted = params.evaluate
    faces = root / artifacts.FACES
    _check_data(name, root)
    there = [split for split in artifacts.SPLITS if (faces / f"{split}.csv").is_file()]
    splits = [split for split in wanted.splits if split in there]
    if not splits:
        raise artifacts.ArtifactError(
            f"evaluate.splits: expected at least one split of the data set ({', '.join(there) or 'it has none'}), got "
            f"[{', '.join(wanted.splits)}]. Correct it in params.yaml."
        )
    for split in wanted.splits:
        if split not in there:
            print(f"{name}: the data set has no split {split}: skipped", flush=True)
    device = devices.open_device(name, devices.without_loop(params.device_options[name]))
    folder = root / artifacts.MODELS / name
    with _open_scorer(name, folder, wanted, device) as scorer:
        return {
            split: _score_split(scorer, split, wanted.checkpoint, read_model(folder), faces, _target(root, name, split))
            for split in splits
        }


def trained_run(name: str, root: Path) -> Optional[dict]:
    """Read the record of the run that wrote `models/<name>`.

    Args:
        name: the run, as in `params.devices`.
        root: the folder in which the pipeline's artifacts lie.

    Returns:
        The record, or None if `runs/<name>` was not fetched together with the model.

    Raises:
        ArtifactError: the record can't be read.
    """
    path = Path(root) / artifacts.RUNS / name / "run.json"
    return artifacts.read_json(path) if path.is_file() else None


def _check_data(name, root):
    """Raise ArtifactError if data/faces is not the data that the run was trained on."""
    run = trained_run(name, root)
    if run is not None and run["data"]["hash"] != artifacts.faces_hash(root / artifacts.FACES):
        raise artifacts.ArtifactError(
            f"{artifacts.FACES} is not the data that the run {name!r} was trained on: run `dvc repro` to bring both "
            "in step, "
            f"or `dvc checkout {artifacts.FACES}` if the folder was edited."
        )


def _open_scorer(name, folder, wanted, device):
    try:
        return open_model(folder, wanted.checkpoint, device, wanted.batch_size)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. Delete {folder} and run `dvc checkout {folder}`. If the copy in DVC's cache is damaged as "
            "well, run "
            f"`dvc repro -f train@{name}` to train again."
        ) from None


def _target(root, name, split):
    return root / artifacts.EVALUATION / name / split


def _score_split(scorer, split, checkpoint, model, faces_folder, target):
    class_names = tuple(model["classes"])
    faces = input_pipeline.load_faces(faces_folder, split, class_names, model["image_size"])
    found = scorer(faces.images)
    epoch = model["checkpoints"][checkpoint]["epoch"]
    scores = {"split": split, "checkpoint": checkpoint, "epoch": epoch}
    scores.update(metrics.scores(found["logits"], faces.labels, class_names))
    artifacts.write_csv(
        target / "predictions.csv",
        artifacts.predictions_columns(class_names),
        _predictions(found["probabilities"], faces, class_names),
    )
    columns = ("actual",) + class_names
    artifacts.write_csv(
        target / "confusion.csv",
        columns,
        [dict(zip(columns, [actual] + counts)) for actual, counts in zip(class_names, scores["confusion"])],
    )
    scores = artifacts.seal(dict(scores, files=artifacts.file_hashes(target, ["predictions.csv"])))
    artifacts.write_json(target / "scores.json", scores)
    print(_sentence(target.parent.name, scores), flush=True)
    return scores


#: How to read a split's accuracy.
_MEANING = {
    "train": "the network was trained on these",
    "val": "the best checkpoint was chosen on these",
    "test": "not used in training",
}


def _sentence(name, scores):
    split, images = scores["split"], scores["images"]
    correct = round(scores["accuracy"] * images)
    return (
        f"{name}: {correct} of {images} {split} pictures classified correctly ({scores['accuracy']:.1%}; "
        f"{_MEANING[split]}), checkpoint {scores['checkpoint']} of epoch {scores['epoch']}"
    )


def _predictions(probabilities, faces, class_names):
    for source, label, row in zip(faces.sources, faces.labels, probabilities):
        best = int(row.argmax())
        # A float32 has about seven digits.
        numbers = {"p_" + name: round(float(value), 7) for name, value in zip(class_names, row)}
        yield dict(
            numbers,
            source=source,
            actual=class_names[label],
            predicted=class_names[best],
            confidence=round(float(row[best]), 7),
        )
