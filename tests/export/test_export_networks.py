"""Every kind of network agrees with TensorFlow when it is exported, and what does not is refused."""

import json
import subprocess

import numpy as np
import onnxruntime
import pytest

from covpool.export import agreement, onnx_graph
from covpool.pipeline.project import TF_LAUNCHER
from tests.predict.networks import LOGARITHM
from tests.project import ROOT

KINDS = ["average", "default", "gaussian", "gaussian-eigh", "model1", "original", "small"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What TensorFlow wrote of networks of every kind, tests/tf/export/make_networks.py."""
    place = tmp_path_factory.mktemp("networks") / "all"
    subprocess.run([TF_LAUNCHER, "-m", "tests.tf.export.make_networks", place], cwd=ROOT, check=True)
    return place


def read(folder, kind):
    faces = np.load(folder / ("default" if kind == "original" else kind) / "faces.npy")
    network = json.loads((folder / kind / "network.json").read_text())
    arrays = [dict(np.load(folder / kind / name)) for name in ("weights.npz", "scores.npz")]
    return [faces, network, *arrays]


def run(model, faces):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"faces": faces})))


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_tensorflow(folder, kind, capsys):
    faces, network, weights, reference = read(folder, kind)
    found = run(onnx_graph.build(weights, network, network["num_classes"]), faces)
    assert set(reference) <= set(found)
    differences = {name: float(np.abs(found[name] - reference[name]).max()) for name in reference}
    with capsys.disabled():
        print(f"\n{kind}: " + ", ".join(f"{name} {value:.1e}" for name, value in sorted(differences.items())))
    assert differences["probabilities"] < 1e-3
    scale = np.abs(reference["embeddings"]).max()
    assert differences["embeddings"] < 1e-3 * max(scale, 1)
    if "logeig" in reference:
        assert differences["logeig"] < 5e-3


def test_any_number_of_faces_at_once(folder):
    faces, network, weights, _ = read(folder, "small")
    model = onnx_graph.build(weights, network, network["num_classes"])
    whole = run(model, faces)["logits"]
    single = np.concatenate([run(model, faces[place : place + 1])["logits"] for place in range(len(faces))])
    assert np.allclose(whole, single, atol=1e-4)
    assert run(model, faces[:0])["logits"].shape == (0, 2)


def test_half_precision_halves_the_file_at_a_small_price(folder):
    faces, network, weights, reference = read(folder, "default")
    models = [onnx_graph.build(weights, network, 7, float16) for float16 in (False, True)]
    whole, half = (len(model.SerializeToString()) for model in models)
    assert half < 0.6 * whole
    assert np.abs(run(models[1], faces)["probabilities"] - reference["probabilities"]).max() < 5e-3


def test_the_polynomials_are_those_that_the_tests_of_predict_use(folder):
    _, network, *_ = read(folder, "default")
    assert network["logarithm"] == LOGARITHM


class TestRefusals:
    """`agreement.compare` says why a network must not be used."""

    network = {"spd": {"method": "eigh", "epsilon": 1e-4, "maximum": 1e4}, "logarithm": {"lowest": 1e-4}}
    sure = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)

    def reasons(self, ours, **reference):
        return agreement.compare({"probabilities": ours}, {"probabilities": self.sure, **reference}, self.network)[1]

    def test_the_same_scores_are_accepted(self):
        assert self.reasons(self.sure) == []

    def test_a_difference_is_refused(self):
        assert "differs by 2.0e-03" in self.reasons(self.sure + np.float32([[2e-3, -2e-3]] * 2))[0]

    def test_another_class_is_refused_only_where_the_margin_is_clear(self):
        assert "1 of 2 faces get another class" in self.reasons(self.sure[[0, 0]])[1]
        close = np.array([[0.5001, 0.4999]], np.float32)
        assert agreement.compare({"probabilities": close[:, ::-1]}, {"probabilities": close}, self.network)[1] == []

    def test_scores_that_are_not_finite_are_refused(self):
        assert "not finite" in self.reasons(self.sure * np.nan)[0]

    @pytest.mark.parametrize(
        "spectrum, word",
        [((1.0, 2e4), "spd.maximum"), ((5e-5, 1e-1), "spd.epsilon"), ((1e-3, 1e3), "spd.ridge"), ((0.1, 1.0), None)],
    )
    def test_a_spectrum_outside_of_the_range_says_what_to_set(self, spectrum, word):
        reasons = self.reasons(self.sure, bimap=np.stack([np.diag(spectrum)] * 2).astype(np.float32))
        assert word in " ".join(reasons) if word else reasons == []
