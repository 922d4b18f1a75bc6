"""Builds the inference network as an ONNX graph, node by node, from plain arrays (`weights`).

The graph computes what `covpool.networks` computes for scoring, with three differences that change rounding only: batch
normalisation is folded into the kernels; the 256x256 covariance is never formed, because the covariance of projected
features is the projection of the covariance, W^T cov(F) W = cov(F W); and the matrix logarithm is the iterative one
(docs/spd-layers.md), because ONNX has no eigendecomposition.

Input `faces`: uint8 [B, size, size, 3], RGB. Outputs: `probabilities` and `logits` [B, classes], `embeddings` [B, e]
and, unless the pooling is `average`, `bimap` and `logeig` [B, 128, 128] and `positions` [B, 128, P]: the features of
the P positions after BiMap, of which `bimap` is the covariance. `positions` serves the explanation.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Understood by onnxruntime from 1.14 on, the last one for Python 3.7.
OPSET = 17
IR_VERSION = 8
#: The trace of a matrix below which nothing can be normalised, as in covpool.spd: the square of float32's epsilon.
NORM_FLOOR = float(np.finfo(np.float32).eps) ** 2
#: Powers of a matrix that are formed for a polynomial, as in covpool.spd.
BLOCK = 3


class Graph:
    """Collects nodes and constants; each method adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operation: str, *inputs: str, name: str = "", **attributes: object) -> str:
        """Add a node with one output and return the output's name."""
        output = name or f"{operation}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [output], output, **attributes))
        return output

    def constant(self, value: object, name: str = "", dtype: type = np.float32) -> str:
        """Add a constant of the type and return its name; equal unnamed scalars share one."""
        array = np.asarray(value, dtype)
        key = name or (f"{array.dtype}_{array.item()!r}" if array.ndim == 0 else f"constant_{len(self.constants)}")
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, key)
        return key


def build(weights: dict[str, np.ndarray], network: dict, num_classes: int, float16: bool = False) -> onnx.ModelProto:
    """Build the network.

    Args:
        weights: the arrays of `weights.npz`.
        network: the content of `network.json`.
        num_classes: number of classes.
        float16: store the kernel of fc_1, most of the file, in half precision. It is computed with in float32.

    Returns:
        A checked ONNX model without metadata.
    """
    graph, size = Graph(), network["image_size"]
    second_order = network["network"]["pooling"] != "average"
    features, positions = _convolutions(graph, weights, network)
    outputs = {}
    if second_order:
        mapped = _pool(graph, features, positions, weights, network)
        logarithm = _logarithm(graph, mapped, weights["orth_weight0"].shape[1], network["logarithm"])
        pooled = _entries(graph, logarithm, weights["orth_weight0"].shape[1])
        matrix = weights["orth_weight0"].shape[1]
        outputs = {"bimap": [matrix, matrix], "logeig": [matrix, matrix], "positions": [matrix, positions]}
    else:
        pooled = graph.add("ReduceMean", features, axes=[2], keepdims=0)
    hidden = _dense(graph, pooled, weights, "fc_1", float16)
    if network["network"]["model_def"] == "covpoolnet":
        hidden = _dense(graph, hidden, weights, "fc_2")
    embeddings = _dense(graph, hidden, weights, "Bottleneck", relu=False, name="embeddings")
    logits = _dense(graph, embeddings, weights, "Logits", relu=False, name="logits")
    graph.add("Softmax", logits, axis=1, name="probabilities")
    outputs = {
        "probabilities": [num_classes],
        "logits": [num_classes],
        "embeddings": [weights["Bottleneck/bias"].shape[0]],
        **outputs,
    }
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "covpoolfer",
            [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["batch", size, size, 3])],
            [_output(key, shape) for key, shape in outputs.items()],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="covpool",
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    return model


def _output(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])


def _convolutions(graph, weights, network):
    """uint8 faces -> features [B, 256, P], and P."""
    images = graph.add("Cast", "faces", to=TensorProto.FLOAT)
    size = network["image_size"]
    if network["network"]["normalisation"] == "per_image":
        axes = [1, 2, 3]
        centred = graph.add("Sub", images, graph.add("ReduceMean", images, axes=axes))
        variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=axes)
        # A flat picture stays finite: the deviation is at least that of one grey level in one value.
        least = graph.constant(1.0 / np.sqrt(3.0 * size * size))
        images = graph.add("Div", centred, graph.add("Max", graph.add("Sqrt", variance), least))
    net = graph.add("Transpose", images, perm=[0, 3, 1, 2])
    for layer, pooled in network["convolutions"]:
        kernel = graph.constant(weights[layer + "/kernel"].transpose(3, 2, 0, 1), layer + "/kernel")
        bias = graph.constant(weights[layer + "/bias"], layer + "/bias")
        net = graph.add("Conv", net, kernel, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        net = graph.add("Relu", net)
        if pooled:
            net = graph.add("MaxPool", net, kernel_shape=[2, 2], strides=[2, 2])
            size //= 2
    channels = weights[network["convolutions"][-1][0] + "/bias"].shape[0]
    shape = graph.constant([0, channels, size * size], dtype=np.int64)
    return graph.add("Reshape", net, shape), size * size


def _pool(graph, features, positions, weights, network):
    """Features [B, C, P] -> the matrix after BiMap [B, m, m], and the output `positions` [B, m, P]."""
    frame, channels = weights["orth_weight0"], weights["Conv2dfo_6/bias"].shape[0]
    rows = graph.constant(frame[:channels].T, "orth_weight0")
    mean = graph.add("ReduceMean", features, axes=[2])
    centred = graph.add("Sub", features, mean)
    projected, middle = graph.add("MatMul", rows, centred), graph.add("MatMul", rows, mean)
    if network["network"]["pooling"] == "gaussian":
        # The Gaussian's matrix is [[S, 0], [0, 0]] + (m, 1) (m, 1)^T.
        middle = graph.add("Add", middle, graph.constant(frame[channels:].T))
    freedom = graph.constant(1.0 / (positions - 1))
    transposed = graph.add("Transpose", projected, perm=[0, 2, 1])
    scatter = graph.add("Mul", graph.add("MatMul", projected, transposed), freedom)
    squares = graph.add("ReduceSum", graph.add("Mul", centred, centred), graph.constant([1, 2], dtype=np.int64))
    trace = graph.add("Mul", squares, freedom)
    left = frame[:channels].astype(np.float64)
    ridge = graph.constant(network["spd"]["ridge"] * (left.T @ left), "ridge")
    gaussian = network["network"]["pooling"] == "gaussian"
    mapped = graph.add("Add", scatter, graph.add("Mul", trace, ridge), name="" if gaussian else "bimap")
    if gaussian:
        outer = graph.add("MatMul", middle, graph.add("Transpose", middle, perm=[0, 2, 1]))
        mapped = graph.add("Add", mapped, outer, name="bimap")
    graph.add("Add", projected, middle, name="positions")
    return mapped


def _logarithm(graph, mapped, size, plan):
    """The iterative matrix logarithm [B, n, n], with the polynomials of `covpool.spd.logarithm_plan`."""
    identity = graph.constant(np.eye(size), "identity")
    half = graph.constant(0.5)
    x = graph.add("Mul", graph.add("Add", mapped, graph.add("Transpose", mapped, perm=[0, 2, 1])), half)
    squares = graph.add("ReduceSum", graph.add("Mul", x, x), graph.constant([1, 2], dtype=np.int64))
    norm = graph.add("Max", graph.add("Sqrt", squares), graph.constant(NORM_FLOOR))
    t = graph.add("Sub", graph.add("Mul", graph.add("Div", x, norm), graph.constant(2.0)), identity)
    total = graph.add("Mul", graph.add("Log", norm), identity)
    for factor, following in plan["steps"]:
        powers = _powers(graph, t)
        logarithm = _polynomial(graph, -2.0 * np.array(factor), powers, identity)
        total = graph.add("Add", total, logarithm)
        t = _polynomial(graph, following, powers, identity)
    width = plan["width"]
    shifted = graph.add("Sub", t, graph.constant((1 - width) * np.eye(size)))
    u = graph.add("Mul", shifted, graph.constant(1 / width))
    remainder = _polynomial(graph, plan["remainder"], _powers(graph, u), identity)
    return graph.add("Add", total, remainder, name="logeig")


def _powers(graph, t):
    powers = [t]
    while len(powers) < BLOCK:
        powers.append(graph.add("MatMul", t, powers[-1]))
    return powers


def _polynomial(graph, coefficients, powers, identity):
    """sum_i coefficients[i] T^i of a degree divisible by BLOCK (Paterson and Stockmeyer 1973)."""
    result = ""
    for start in reversed(range(0, len(coefficients) - 1, BLOCK)):
        block = coefficients[start : start + BLOCK]
        if result:
            result = graph.add("MatMul", powers[-1], result)
        else:
            result = graph.add("Mul", powers[-1], graph.constant(coefficients[-1]))
        for coefficient, power in zip(block, [identity, *powers]):
            result = graph.add("Add", result, graph.add("Mul", power, graph.constant(coefficient)))
    return result


def _entries(graph, matrix, size):
    """The upper triangle of symmetric matrices, row by row: [B, n (n + 1) / 2]."""
    rows, columns = np.triu_indices(size)
    flat = graph.add("Reshape", matrix, graph.constant([0, size * size], dtype=np.int64))
    return graph.add("Gather", flat, graph.constant(rows * size + columns, dtype=np.int64), axis=1)


def _dense(graph, inputs, weights, layer, float16=False, relu=True, name=""):
    kernel = graph.constant(weights[layer + "/kernel"], layer + "/kernel", np.float16 if float16 else np.float32)
    if float16:
        kernel = graph.add("Cast", kernel, to=TensorProto.FLOAT)
    bias = graph.constant(weights[layer + "/bias"], layer + "/bias")
    outputs = graph.add("Gemm", inputs, kernel, bias, name="" if relu else name)
    return graph.add("Relu", outputs) if relu else outputs
