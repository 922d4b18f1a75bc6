"""The explanation: exact gradients, a map that adds up, and evidence that was planted is found."""

import numpy as np
import pytest

from covpool.export import onnx_graph
from covpool.export.exporting import save
from covpool.predict import Model
from covpool.predict.explanation import Explainer
from tests.predict.networks import description, metadata, random_weights

CORNERS = {0: (slice(0, 40), slice(0, 40)), 1: (slice(60, 100), slice(60, 100))}


def built(folder, network, weights):
    path = folder / "model.onnx"
    save(onnx_graph.build(weights, network, network["num_classes"]), metadata(network), path)
    return Model(path)


@pytest.fixture(scope="module", params=["covariance", "gaussian"])
def model(request, tmp_path_factory):
    network = description(request.param, "covpoolnet")
    return built(tmp_path_factory.mktemp("explained"), network, random_weights(network))


def faces(count, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, [count, 10, 10, 3], np.uint8)
    return coarse.repeat(10, 1).repeat(10, 2)


def test_the_logits_are_those_of_the_network(model):
    found = model(faces(3), ("logits", "bimap"))
    explained = Explainer(model).logits(found["bimap"].astype(np.float64))
    assert np.abs(explained - found["logits"]).max() < 1e-3


def test_the_map_adds_up_to_the_difference_of_logits(model):
    found = model(faces(3), ("logits", "bimap", "positions"))
    explainer = Explainer(model)
    for bimap, positions in zip(found["bimap"], found["positions"]):
        for target in (0, 3):
            explained = explainer(bimap, positions, target)
            plain = np.trace(bimap) / len(bimap) * np.eye(len(bimap))
            ends = explainer.logits(np.stack([plain, bimap.astype(float)]))[:, target]
            assert explained.difference == pytest.approx(ends[1] - ends[0], rel=1e-3, abs=1e-3)
            assert explained.map.sum() == pytest.approx(explained.difference, rel=0.05, abs=0.05)


def planted(count, seed):
    """Grey pictures whose class is the corner that has a pattern: uint8 [count, 100, 100, 3] and the classes."""
    rng = np.random.default_rng(seed)
    images = rng.normal(128, 6, [count, 100, 100, 3])
    classes = np.arange(count) % 2
    for image, label in zip(images, classes):
        rows, columns = CORNERS[int(label)]
        stripes = np.sign(np.sin(np.arange(40) * 2.0 + rng.uniform(0, 6)))
        # The two corners have patterns of their own, for the covariance forgets where something was.
        image[rows, columns] += 60 * (stripes[:, None, None] if label else stripes[None, :, None])
    return np.clip(images, 0, 255).astype(np.uint8), classes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network whose last layer was fitted to the planted classes, by least squares on what its fc_1 gives."""
    network = description(num_classes=2)
    weights = random_weights(network, seed=1)
    folder = tmp_path_factory.mktemp("planted")
    images, classes = planted(96, 0)
    first = built(folder, network, weights)
    embeddings = np.concatenate([first(images[i : i + 16], ("embeddings",))["embeddings"] for i in range(0, 96, 16)])
    inputs = np.column_stack([embeddings, np.ones(len(embeddings))])
    goal = np.where(classes[:, None] == np.arange(2), 4.0, -4.0)
    fitted = np.linalg.solve(inputs.T @ inputs + 1e-3 * np.eye(inputs.shape[1]), inputs.T @ goal)
    weights["Logits/kernel"], weights["Logits/bias"] = fitted[:-1].astype(np.float32), fitted[-1].astype(np.float32)
    return built(folder, network, weights)


def test_planted_evidence_is_found(trained):
    images, classes = planted(24, 1)
    found = trained(images, ("logits", "bimap", "positions"))
    right = found["logits"].argmax(1) == classes
    assert right.mean() > 0.9
    explainer = Explainer(trained)
    points = 0
    for place in np.flatnonzero(right):
        values = explainer(found["bimap"][place], found["positions"][place], int(classes[place])).map
        corner = values[:5, :5] if classes[place] == 0 else values[7:, 7:]
        # 25 of 144 positions: evidence that lay anywhere would give 0.17.
        points += np.abs(corner).sum() > 0.5 * np.abs(values).sum()
    assert points >= 0.9 * right.sum()
