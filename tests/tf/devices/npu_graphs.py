"""Helpers of the NPU's tests: the opened device, its training graph, and a session that is ready for steps."""

import numpy as np

from covpool import devices
from covpool.training.graph import TrainingGraph
from covpool.training.input_pipeline import Faces

COVARIANCE = {"devices": ["npu"], "network.pooling": "covariance"}


def opened(params, must_exist=True):
    return devices.open_npu("npu", params.device_options["npu"], must_exist)


def options(**given):
    return {"device_options.npu." + key: value for key, value in given.items()}


def graph_on(device, params):
    pixels = np.random.RandomState(0).randint(0, 256, [20, 56, 56, 3]).astype(np.uint8)
    faces = Faces(pixels, np.arange(20, dtype=np.int32) % 7, [])
    return TrainingGraph(params, device, faces, lambda: 0, 1000)


def begun(graph):
    session = graph.device.session(graph.graph)
    session.run(graph.initialise)
    graph.begin(session)
    return session
