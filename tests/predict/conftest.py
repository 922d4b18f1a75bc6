"""A small exported network, with random weights, and photographs of drawn faces to use it on."""

import numpy as np
import pytest
from skimage import data

from covpool.export import onnx_graph
from covpool.export.exporting import save
from tests.predict.networks import description, metadata, random_weights


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """The path of an exported network: covpoolnet2 with random weights."""
    network = description()
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    save(onnx_graph.build(random_weights(network), network, 7), metadata(network), path)
    return path


@pytest.fixture(scope="session")
def portrait():
    """A real photo with one face, uint8 [220, 220, 3] RGB."""
    return np.ascontiguousarray(data.astronaut()[20:240, 110:330])
