"""Scoring from the command line: the original's checkpoints and our models against the float64 network."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool.pipeline import artifacts
from covpool.training import score
from covpool.training.evaluation import evaluate
from tests.tf.networks import networks_truth
from tests.tf.training import training_project

CHOICES = dict(embedding=24, classes=5)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A checkpoint as the authors' files are, for pictures in 0..255, and what it makes of five of them."""
    folder = tmp_path_factory.mktemp("original")
    faces = networks_truth.faces(5)
    arrays = networks_truth.weights("covpoolnet2", faces[:2], **CHOICES)
    with tf.Graph().as_default(), tf.Session() as session:
        variables, start = [], []
        for name, values in arrays.items():
            full = name if name.startswith("Logits/") else "DLP-CNN/" + name
            feed = tf.placeholder(tf.float32, values.shape)
            variables.append(tf.get_variable(full, values.shape, use_resource=False))
            start.append((tf.assign(variables[-1], feed).op, {feed: values}))
        for assign, feed in start:
            session.run(assign, feed)
        for prefix, saved in (("model", variables), ("headless", [v for v in variables if "Logits" not in v.op.name])):
            tf.train.Saver(saved).save(session, str(folder / prefix), write_meta_graph=False, write_state=False)
    np.save(str(folder / "faces.npy"), faces)
    return folder, faces, networks_truth.forward(arrays, faces, "covpoolnet2", **CHOICES)


@pytest.fixture
def scores(tmp_path, monkeypatch, capsys):
    """scores(arguments) -> the arrays that the command wrote, run where there is no params.yaml."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        score.main([str(each) for each in arguments] + ["--out", "out/scores.npz"])
        printed = capsys.readouterr()
        assert printed.err == "" and printed.out.count("\n") == 1
        with np.load("out/scores.npz") as found:
            return {name: found[name] for name in found.files}

    return run


def close(found, expected, names):
    assert set(found) == set(names)
    for name in names:
        assert found[name].dtype == np.float32 and found[name].shape == expected[name].shape
        assert np.abs(found[name] - expected[name]).max() < 1e-3 * np.abs(expected[name]).max(), name


def test_a_checkpoint_of_the_original_scores_as_in_float64(original, scores):
    folder, faces, expected = original
    options = ["--network", "covpoolnet2", "--normalisation", "none", "--batch-size", 2]
    found = scores("--checkpoint", folder / "model", "--faces", folder / "faces.npy", "--endpoints", *options)
    matrices = ("covariance", "bimap", "reeig", "logeig")
    close(found, expected, ("logits", "probabilities", "embeddings") + matrices)
    assert found["embeddings"].shape == (5, 24) and found["covariance"].shape == (5, 256, 256)
    np.save(str(folder / "wide.npy"), np.pad(faces, ((0, 0), (6, 6), (6, 6), (0, 0)), "constant").astype(np.float32))
    headless = scores("--checkpoint", folder / "headless", "--faces", folder / "wide.npy", *options)
    close(headless, expected, ("embeddings",))
    np.testing.assert_array_equal(headless["embeddings"], found["embeddings"])


def weights_of(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {name.replace("CovPool2/", ""): reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.mark.parametrize("which", ["best", "last"])
def test_a_model_of_ours_scores_as_in_float64(finished, scores, which):
    faces = np.load(str(finished.folder / "data/faces/val.npy"))
    model = finished.folder / "models/cpu"
    found = scores("--model", model, "--which", which, "--faces", finished.folder / "data/faces/val.npy")
    images = networks_truth.standardised(faces[:, 4:52, 4:52])
    expected = networks_truth.forward(weights_of(model / which), images, "covpoolnet2", pooling="average")
    close(found, expected, ("logits", "probabilities", "embeddings"))


def test_evaluation_writes_what_the_model_predicts(finished):
    result = evaluate(finished.params, "cpu", finished.folder)
    folder = finished.folder / "evaluation/cpu/val"
    scores = json.loads((folder / "scores.json").read_text())
    assert scores == json.loads(json.dumps(result["val"])) and scores["split"] == "val" and scores["images"] == 17
    model = json.loads((finished.folder / "models/cpu/model.json").read_text())
    assert scores["accuracy"] == model["checkpoints"]["best"]["val_accuracy"]
    assert scores["epoch"] == model["checkpoints"]["best"]["epoch"]
    images = networks_truth.standardised(np.load(str(finished.folder / "data/faces/val.npy"))[:, 4:52, 4:52])
    expected = networks_truth.forward(
        weights_of(finished.folder / "models/cpu/best"), images, "covpoolnet2", pooling="average"
    )["probabilities"]
    rows = (folder / "predictions.csv").read_text().splitlines()
    assert len(rows) == 18 and rows[0].startswith("source,actual,predicted,confidence,p_anger,")
    for number, row in enumerate(rows[1:]):
        source, actual, predicted, confidence, *shares = row.split(",")
        assert source == f"val/{number}.png" and actual == scores["classes"][number % 7]
        np.testing.assert_allclose([float(share) for share in shares], expected[number], atol=1e-3)
        assert float(confidence) == max(map(float, shares))
        assert predicted == scores["classes"][int(np.argmax([float(share) for share in shares]))]
    assert artifacts.seal_is_intact(scores)
    assert scores["files"] == {"predictions.csv": hashlib.sha256((folder / "predictions.csv").read_bytes()).hexdigest()}
    table = [line.split(",")[1:] for line in (folder / "confusion.csv").read_text().splitlines()[1:]]
    assert [[int(cell) for cell in line] for line in table] == scores["confusion"]


def another_build():
    """A build that is set up beside the one that runs, by its name for TF_BUILD; None where there is none."""
    folders = {"stock": ".venv-tf115-stock", "intel": ".venv-tf115", "tf2": ".venv-tf2"}
    for build, folder in folders.items():
        place = training_project.ROOT / folder
        if (place / "bin/python").exists() and not os.path.samefile(str(place), sys.prefix):
            return build
    return None


@pytest.mark.skipif(another_build() is None, reason="no other build is set up")
def test_another_build_reads_our_models_and_scores_the_same(finished, tmp_path, scores):
    """The command as a user gives it, in a folder of his own."""
    root = training_project.ROOT
    options = ["--model", str(finished.folder / "models/cpu"), "--faces", str(finished.folder / "data/faces/val.npy")]
    environment = {key: value for key, value in os.environ.items() if key != "COVPOOL_TF_PYTHON"}
    done = subprocess.run(
        [str(root / "stages/tf"), "-m", "covpool.training.score", "--out", "theirs.npz"] + options,
        text=True,
        cwd=str(tmp_path),
        env=dict(environment, TF_BUILD=another_build()),
        capture_output=True,
    )
    assert (done.returncode, training_project.without_onednn(done.stderr)) == (0, "")
    with np.load(str(tmp_path / "theirs.npz")) as theirs:
        for name, ours in scores(*options).items():
            np.testing.assert_allclose(theirs[name], ours, rtol=1e-4, atol=1e-5 * np.abs(ours).max())


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        score.main([str(each) for each in arguments] + ["--out", "scores.npz"])
    message = str(left.value) if isinstance(left.value.code, str) else capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_wrong_calls_are_refused(tmp_path, monkeypatch, capsys, original, finished):
    monkeypatch.chdir(tmp_path)
    folder = original[0]
    model = ("--model", finished.folder / "models/cpu")
    checkpoint = ("--checkpoint", folder / "model")
    faces = ("--faces", folder / "faces.npy")
    known = ("--network", "covpoolnet2", "--normalisation", "none")
    assert "expected either --model, or --checkpoint" in refused(capsys, *faces)
    assert "expected either --model, or --checkpoint" in refused(capsys, *faces, *model, *checkpoint)
    assert "--checkpoint needs --network" in refused(capsys, *faces, *checkpoint, "--normalisation", "none")
    assert "--normalisation belongs to --checkpoint" in refused(capsys, *faces, *model, "--normalisation", "none")
    assert "--batch-size: expected 1 or more, got 0" in refused(capsys, *faces, *model, "--batch-size", 0)
    assert "params.yaml is missing" in refused(capsys, *faces, *model, "--device", "cpu")
    assert "absent/model.json is missing" in refused(capsys, *faces, "--model", "absent")
    assert "no checkpoint at absent" in refused(capsys, *faces, "--checkpoint", "absent", *known)
    message = refused(capsys, *faces, *checkpoint, "--network", "covpoolnet", "--normalisation", "none")
    assert "CovPoolNetwork/fc_2/weights: is missing" in message
    assert "at least 120x120 pixels, the network's input" in refused(
        capsys, *faces, *checkpoint, *known, "--image-size", 120
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "array, word",
    [
        (np.zeros((2, 48, 48), np.uint8), "[2, 48, 48]"),
        (np.zeros((2, 48, 48, 3)), "float64"),
        (np.zeros((1, 48, 48, 3), ">i2"), ">i2"),
        (np.zeros((1, 40, 48, 3), np.uint8), "at least 48x48"),
        (np.full((1, 48, 48, 3), np.nan, np.float32), "not finite"),
        (np.array([{}]), "is not a NumPy array"),
    ],
    ids=["rank", "dtype", "integers", "small", "nan", "pickle"],
)
def test_faces_that_can_not_be_scored_are_refused(tmp_path, monkeypatch, capsys, finished, array, word):
    monkeypatch.chdir(tmp_path)
    np.save("faces.npy", array, allow_pickle=True)
    assert word in refused(capsys, "--model", finished.folder / "models/cpu", "--faces", "faces.npy")


def test_an_archive_of_arrays_is_refused(tmp_path, monkeypatch, capsys, finished):
    monkeypatch.chdir(tmp_path)
    np.savez("faces.npz", faces=np.zeros((1, 48, 48, 3), np.uint8))
    assert "archive of arrays" in refused(capsys, "--model", finished.folder / "models/cpu", "--faces", "faces.npz")


def test_any_number_of_faces_in_any_byte_order(tmp_path, monkeypatch, capsys, finished, scores):
    monkeypatch.chdir(tmp_path)
    faces = np.load(str(finished.folder / "data/faces/val.npy"))
    model = ("--model", finished.folder / "models/cpu")
    expected = scores(*model, "--faces", finished.folder / "data/faces/val.npy")
    for count in (0, 1, 5):
        np.save("swapped.npy", faces[:count].astype(">f4"))
        found = scores(*model, "--faces", "swapped.npy", "--batch-size", 4)
        assert set(found) == set(expected)
        for name in expected:
            assert found[name].shape == (count,) + expected[name].shape[1:]
            np.testing.assert_allclose(found[name], expected[name][:count], rtol=1e-4, atol=1e-4)
    np.save("scaled.npy", (faces[:2] / 255).astype(np.float32))
    score.main([str(each) for each in model] + ["--faces", "scaled.npy", "--out", "out/scores.npz"])
    assert capsys.readouterr().err == "scaled.npy: all values lie in 0..1; the network was trained on 0..255.\n"


def test_a_device_by_name_comes_from_params(tmp_path, monkeypatch, capsys, finished):
    monkeypatch.chdir(tmp_path)
    shutil.copy(str(finished.folder / "params.yaml"), "params.yaml")
    options = ("--model", finished.folder / "models/cpu", "--faces", finished.folder / "data/faces/val.npy")
    assert "device_options in params.yaml (cpu, gpu" in refused(capsys, *options, "--device", "tpu")
    score.main([str(each) for each in options] + ["--out", "scores.npz", "--device", "cpu"])
    assert capsys.readouterr().out.startswith("scores.npz: 17 pictures, embeddings, logits, probabilities")
