"""The Predictor: the stage's faces and crops, all faces of a picture, and what it returns and refuses."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from covpool.export import onnx_graph
from covpool.export.exporting import save
from covpool.faces import detectors
from covpool.faces.crops import Settings, normalise_picture
from covpool.pipeline import artifacts
from covpool.predict import InputError, ModelError, Predictor
from tests.predict.networks import description, metadata, random_weights
from tests.project import ROOT


@pytest.fixture(scope="module")
def predictor(model_file):
    return Predictor(model_file)


@pytest.fixture(scope="module")
def crowd(portrait):
    """Two faces of different sizes on one grey picture, 640x480."""
    picture = np.full([480, 640, 3], 110, np.uint8)
    large, small = cv2.resize(portrait, (300, 300)), cv2.resize(portrait, (120, 120), interpolation=cv2.INTER_AREA)
    picture[100:400, 20:320] = large
    picture[200:320, 440:560] = small
    return picture


def test_the_crop_is_that_of_training_byte_for_byte(model_file, portrait, tmp_path):
    cv2.imwrite(str(tmp_path / "face.png"), portrait[..., ::-1])
    row = {"path": "face.png", "sha256": artifacts.sha256_file(tmp_path / "face.png")}
    stage = normalise_picture(Settings(tmp_path), row)
    found = Predictor(model_file, min_face=detectors.smallest_face(portrait)).predict(tmp_path / "face.png")
    assert np.array_equal(found[0].crop, stage.image[6:-6, 6:-6])
    assert found[0].box == stage.box and found[0].score == stage.face.score


def test_all_faces_are_found_and_each_once(predictor, crowd):
    faces = predictor.predict(crowd)
    assert len(faces) == 2
    assert sorted(round(face.points[:, 0].mean() / 10) for face in faces) == pytest.approx([17, 50], abs=3)


def test_small_faces_are_left_out_on_request(model_file, crowd):
    assert len(Predictor(model_file, min_face=150).predict(crowd)) == 1


def test_probabilities_are_by_name_and_sum_to_one(predictor, portrait):
    face = predictor(portrait)[0]
    assert list(face.probabilities) == list(predictor.class_names)
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert face.expression == max(face.probabilities, key=face.probabilities.get)
    assert face.crop.shape == (100, 100, 3) and face.bimap is None


def test_matrices_are_returned_on_request(predictor, portrait):
    face = predictor.predict(portrait, matrices=True)[0]
    values, frame = np.linalg.eigh(face.bimap.astype(float))
    assert np.linalg.norm((frame * np.log(values)) @ frame.T - face.logeig) < 1e-3


def test_a_picture_without_a_face(model_file, predictor):
    plain = np.full([200, 300, 3], 90, np.uint8)
    assert predictor(plain) == []
    (face,) = Predictor(model_file, fallback="center")(plain)
    assert face.points is None and face.box == (50.0, 0.0, 200.0, 200.0) and face.score == 0.0


def test_several_threads_get_what_one_gets(predictor, crowd, portrait):
    pictures = [crowd, portrait, crowd, portrait]
    alone = [[face.logits for face in predictor(picture)] for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: [face.logits for face in predictor(picture)], pictures))
    for first, second in zip(alone, together):
        assert np.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("bad", [np.zeros([0, 5, 3], np.uint8), np.zeros([5, 5], np.uint8), np.zeros([5, 5, 3])])
def test_an_array_that_is_no_picture_is_refused(predictor, bad):
    with pytest.raises(InputError, match="expected a picture as uint8"):
        predictor(bad)


def test_one_pixel_is_no_face(predictor):
    assert predictor(np.zeros([1, 1, 3], np.uint8)) == []


@pytest.mark.parametrize("option", [{"min_face": 0}, {"batch": 0}, {"fallback": "fail"}, {"min_score": 2}])
def test_wrong_options_are_refused_by_name(model_file, option):
    with pytest.raises(InputError, match=next(iter(option))):
        Predictor(model_file, **option)


def test_files_that_are_no_models_are_refused(model_file, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "short.onnx").write_bytes(model_file.read_bytes()[:100_000])
    for name in ("text.onnx", "short.onnx"):
        with pytest.raises(ModelError, match="Export it again"):
            Predictor(tmp_path / name)
    with pytest.raises(ModelError, match="no such file"):
        Predictor(tmp_path / "none.onnx")


def test_a_model_whose_scores_do_not_fit_its_names_is_refused(tmp_path):
    network = description()
    names = {**metadata(network), "class_names": ["happy", "sad"]}
    save(onnx_graph.build(random_weights(network), network, 7), names, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"expected scores of the 2 classes that the file names \(happy, sad\), got 7"):
        Predictor(tmp_path / "model.onnx")


def test_another_programs_onnx_is_refused(tmp_path):
    network = description()
    model = onnx_graph.build(random_weights(network), network, 7)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="it lacks its description"):
        Predictor(tmp_path / "model.onnx")


def test_average_pooling_has_no_matrix_to_explain(tmp_path, portrait):
    network = description("average")
    save(onnx_graph.build(random_weights(network), network, 7), metadata(network), tmp_path / "model.onnx")
    predictor = Predictor(tmp_path / "model.onnx")
    assert predictor.predict(portrait, matrices=True)[0].bimap is None
    with pytest.raises(InputError, match="needs a network with a covariance matrix"):
        predictor.predict(portrait, explain=True)


def test_the_package_loads_nothing_before_it_is_asked():
    code = "import sys, covpool; assert not {'numpy', 'cv2', 'onnxruntime'} & set(sys.modules); covpool.Predictor"
    code += "; assert not {'tensorflow', 'dvc', 'pandas', 'mitsuba', 'onnx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
