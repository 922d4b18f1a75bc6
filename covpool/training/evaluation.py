"""Scores one split with a trained network and writes what the report and DVC read of it."""

from pathlib import Path

from covpool import devices
from covpool.pipeline import artifacts
from covpool.training import input_pipeline, metrics
from covpool.training.score import open_model, read_model


def evaluate(params, name, root):
    """Evaluate the run `name` as `params.evaluate` says; writes `evaluation/<name>/`.

    `predictions.csv` has a row a picture, `scores.json` all measures and what was scored, sealed with the hash of
    `predictions.csv` in it, `confusion.csv` the confusion matrix. Returns the content of scores.json.
    """
    root = Path(root)
    target = root / artifacts.EVALUATION / name
    wanted = params.evaluate
    device = devices.open_device(name, devices.without_loop(params.device_options[name]))
    model = read_model(root / artifacts.MODELS / name)
    classes = tuple(model["classes"])
    faces = input_pipeline.load_faces(root / artifacts.FACES, wanted.split, classes, model["image_size"])
    with open_model(root / artifacts.MODELS / name, wanted.checkpoint, device, wanted.batch_size) as scorer:
        found = scorer(faces.images)
    scores = metrics.scores(found["logits"], faces.labels, classes)
    scores = dict(
        {
            "split": wanted.split,
            "checkpoint": wanted.checkpoint,
            "epoch": model["checkpoints"][wanted.checkpoint]["epoch"],
        },
        **scores,
    )
    artifacts.write_csv(
        target / "predictions.csv",
        artifacts.predictions_columns(classes),
        _predictions(found["probabilities"], faces, classes),
    )
    columns = ("actual",) + classes
    artifacts.write_csv(
        target / "confusion.csv",
        columns,
        [dict(zip(columns, [actual] + counts)) for actual, counts in zip(classes, scores["confusion"])],
    )
    scores = artifacts.seal(dict(scores, files=artifacts.file_hashes(target, ["predictions.csv"])))
    artifacts.write_json(target / "scores.json", scores)
    print(
        "{}: {} of {} pictures of {} right ({:.1%}), by the {} checkpoint (epoch {})".format(
            name,
            round(scores["accuracy"] * scores["images"]),
            scores["images"],
            wanted.split,
            scores["accuracy"],
            wanted.checkpoint,
            scores["epoch"],
        )
    )
    return scores


def _predictions(probabilities, faces, classes):
    for source, label, row in zip(faces.sources, faces.labels, probabilities):
        best = int(row.argmax())
        # Seven digits are what a float32 has.
        numbers = {"p_" + name: round(float(value), 7) for name, value in zip(classes, row)}
        yield dict(
            numbers,
            source=source,
            actual=classes[label],
            predicted=classes[best],
            confidence=round(float(row[best]), 7),
        )
