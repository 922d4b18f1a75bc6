"""One server for all tests of the room: a small network with random weights."""

import cv2
import numpy as np
import pytest
from skimage import data

from covpool.export import onnx_graph
from covpool.export.exporting import save
from tests.predict.networks import description, metadata, random_weights
from tests.serve.server import running


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """The path of an exported network with random weights."""
    network = description()
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    save(onnx_graph.build(random_weights(network), network, 7), metadata(network), path)
    return path


@pytest.fixture(scope="session")
def server(model_file):
    """(process, port)."""
    with running(model_file) as found:
        yield found


@pytest.fixture
def port(server):
    return server[1]


@pytest.fixture(scope="session")
def portrait():
    """A photo with one face, as the bytes of a PNG."""
    return png(data.astronaut()[20:240, 110:330])


def png(pixels):
    """uint8 [h, w, 3] RGB as the bytes of a PNG."""
    return cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()
