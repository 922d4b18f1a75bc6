"""What a step of a TensorFlow graph consists of: its arithmetic, counted from the graph, and its time, from a trace."""

import collections
import re
import statistics

import numpy as np

#: Floating-point operations of a symmetric n x n eigendecomposition with vectors, over n^3: the symmetric QR algorithm
#: (G. Golub, C. Van Loan: Matrix Computations, section 8.3).
EIGENDECOMPOSITION = 9


def count_flops(*targets):
    """Floating-point operations that running `targets` takes, by kind of operation: {kind: number}.

    A multiplication and an addition are two. Convolutions are counted as the sums that define them, padding included; a
    QR decomposition that forms Q as 4 (m n^2 - n^3 / 3); what works on elements, a few per cent of all, is left out.
    """
    found, needed = collections.Counter(), _needed_by(targets)
    for operation in needed:
        # What others only wait for, without its result, does not run: the gradient to the pictures, for one.
        used = any(reader in needed for output in operation.outputs for reader in output.consumers())
        if operation.type in _COUNTS and used:
            kind, count = _COUNTS[operation.type]
            found[kind] += int(count(operation))
    return dict(found)


def _needed_by(targets):
    seen, waiting = set(), [getattr(each, "op", each) for each in targets]
    while waiting:
        operation = waiting.pop()
        if operation not in seen:
            seen.add(operation)
            waiting += [each.op for each in operation.inputs] + list(operation.control_inputs)
    return seen


def _size(tensor):
    return np.prod(tensor.shape.as_list(), dtype=float)


def _convolution(images_side):
    """Counts by the tensor [b, h, w, channels out] that is an output or an input of the operation."""

    def count(operation):
        filters = operation.outputs[0] if operation.type.endswith("Filter") else operation.inputs[1]
        channels = images_side(operation).shape.as_list()[3]
        return 2 * _size(images_side(operation)) * _size(filters) / channels

    return count


def _matrix_product(operation):
    left = operation.inputs[0].shape.as_list()
    turned = any(operation.get_attr(name) for name in ("transpose_a", "adj_x") if name in operation.node_def.attr)
    return 2 * _size(operation.outputs[0]) * (left[-2] if turned else left[-1])


def _eigendecomposition(operation):
    shape = operation.inputs[0].shape.as_list()
    return EIGENDECOMPOSITION * np.prod(shape[:-2], dtype=float) * shape[-1] ** 3


def _qr(operation):
    rows, columns = operation.inputs[0].shape.as_list()
    return 4 * (rows * columns**2 - columns**3 / 3)


_COUNTS = {
    "Conv2D": ("convolutions, forward", _convolution(lambda each: each.outputs[0])),
    "Conv2DBackpropInput": ("convolutions, backward", _convolution(lambda each: each.inputs[2])),
    "Conv2DBackpropFilter": ("convolutions, backward", _convolution(lambda each: each.inputs[2])),
    "MatMul": ("matrix products", _matrix_product),
    "BatchMatMul": ("matrix products", _matrix_product),
    "BatchMatMulV2": ("matrix products", _matrix_product),
    "SelfAdjointEigV2": ("eigendecompositions", _eigendecomposition),
    "Qr": ("QR decomposition", _qr),
}

#: What an operation is for, by the first pattern that its type and name, "Type name", matches.
KINDS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("convolutions, backward", r"^\S*Conv2DBackprop"),
        ("convolutions, forward", r"^\S*Conv2D "),
        ("eigendecompositions", r"^SelfAdjointEig"),
        ("moving average of the weights", r"ExponentialMovingAverage"),
        ("optimiser", r"^\S*Apply(Adam|Momentum|RMSProp|Adagrad|Adadelta)"),
        ("W: tangent, QR, transport", r"^Qr|stiefel|orth_weight"),
        ("max pooling", r"^\S*MaxPool"),
        ("batch normalisation", r"BatchNorm|^\S*FusedBatchNorm|batchnorm"),
        ("matrix products", r"^\S*(Batch)?MatMul"),
        ("weight decay and gradient norms", r"L2Loss|(^|[ /])decay(_\d+)?/"),
        ("ReLU", r"^\S*Relu"),
        ("layout", r"^_?MklToTf|^_?MklInputConversion|^\S*Transpose "),
        ("input pipeline", r"Iterator|Dataset|^\S*Timestamp"),
    )
)
OTHER = "everything else"


def milliseconds_by_kind(traces, graph):
    """Time of a step by kind of work: a list of {"kind", "milliseconds", "operations"}, the longest first.

    traces: RunMetadata of runs with FULL_TRACE, of a session that runs one operation at a time. The milliseconds are
    the middle ones.
    """
    found = collections.defaultdict(list)
    for metadata in traces:
        for kind, time_and_number in _by_kind(metadata, graph).items():
            found[kind].append(time_and_number)
    rows = [
        {"kind": kind, "milliseconds": round(statistics.median(time for time, _ in each), 2), "operations": each[0][1]}
        for kind, each in found.items()
    ]
    return sorted(rows, key=lambda row: -row["milliseconds"])


def _by_kind(metadata, graph):
    found = collections.defaultdict(lambda: [0.0, 0])
    for device in metadata.step_stats.dev_stats:
        # Some builds list the host's operations once more.
        if "/device:" not in device.device:
            continue
        for node in device.node_stats:
            kind = kind_of(f"{_type_of(node, graph)} {node.node_name}")
            found[kind][0] += (node.op_end_rel_micros - node.op_start_rel_micros) / 1e3
            found[kind][1] += 1
    return found


def most_in_use(metadata):
    """The most bytes that TensorFlow's allocator had given out in a traced step, by its own count."""
    counts = [
        each.allocator_bytes_in_use
        for device in metadata.step_stats.dev_stats
        for node in device.node_stats
        for each in node.memory
    ]
    return max(counts, default=0)


def kind_of(type_and_name):
    return next((kind for kind, pattern in KINDS if pattern.search(type_and_name)), OTHER)


def _type_of(node, graph):
    """An operation's type: as it ran, from the trace's label "name = Type(inputs)", or as it was built."""
    match = re.match(r"\S+ = (\w+)", node.timeline_label)
    if match:
        return match.group(1)
    try:
        return graph.get_operation_by_name(node.node_name.split(":")[0]).type
    except (KeyError, ValueError):
        return "Unknown"
