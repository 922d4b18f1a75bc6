"""What a run would give to its device, written to files without running it.

    stages/tf -m covpool.diagnostics.describe --device npu --out description

builds the training graph and the session's configuration of a run of params.yaml, and writes

    graph.meta   the graph as a MetaGraphDef, with the shape of every tensor
    config.pb    the session's ConfigProto, serialised
    summary.md   a summary of both: options, operations by type, unknown shapes, variables, inputs

If the run has several workers, the files describe worker 0 and what it exchanges with the others. The other workers are
not started.

Read these files, or send them to support, before the first run on new hardware. An NPU run needs npu_bridge, but no
NPU. No data are needed, because the graph is built for black pictures of the right size.
"""

import argparse
import collections
import functools
import sys
from pathlib import Path
from typing import Any, List, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.config import ParamsError, load_params, run_options
from covpool.devices import ALONE, DeviceError, bridge, describe_tensorflow, open_device, open_npu
from covpool.distributed import hccl_environment
from covpool.distributed.hccl import HcclWorkers
from covpool.distributed.workers import HorovodWorkers, has_horovod
from covpool.pipeline import artifacts, interpreter, markdown
from covpool.training.graph import TrainingGraph
from covpool.training.input_pipeline import Faces
from covpool.training.plan import training_side


def first_worker(name: str, options: Any) -> Any:
    """Create worker 0 of a run, to build its graph. It is not connected to other workers.

    Args:
        name: the run, as in `device_options` of params.yaml.
        options: the run's entry in `device_options`.

    Returns:
        The workers, see `devices.open_workers`. `ALONE` if the run has one worker or if Horovod is needed and not
        installed.

    Raises:
        DeviceError: npu_bridge can't be loaded.
    """
    if options.workers == 1:
        return ALONE
    if options.kind == "npu":
        chip = hccl_environment.Member(rank=0, local_rank=0, local_count=options.workers, device=options.visible_device)
        return HcclWorkers(options.workers, chip, functools.partial(bridge.allreduce, bridge.load(name)))
    return HorovodWorkers(options.workers) if has_horovod() else ALONE


def blank_graph(params: Any, device: Any) -> TrainingGraph:
    """Build the training graph of a run for black pictures. The pictures of a data set would not change the graph.

    Args:
        params: a `config.Params`.
        device: a `devices.Device`.

    Returns:
        The graph.
    """
    size = training_side(params)
    faces = Faces(np.zeros([1, size, size, 3], np.uint8), np.zeros([1], np.int32), ["black"])
    return TrainingGraph(params, device, faces, lambda: 0, params.train.epochs * params.train.epoch_size)


def step_operations(graph: TrainingGraph) -> List[tf.Operation]:
    """List the operations of one training step, without the host's input pipeline.

    Args:
        graph: a training graph.

    Returns:
        The operations that the step depends on, each once.
    """
    todo, found = [graph.step] + [value.op for value in graph.step_values], collections.OrderedDict()
    while todo:
        operation = todo.pop()
        if operation not in found and not operation.type.startswith("Iterator"):
            found[operation] = True
            todo.extend([tensor.op for tensor in operation.inputs] + list(operation.control_inputs))
    return list(found)


def open_shapes(operations: Sequence[tf.Operation]) -> List[tf.Tensor]:
    """List the tensors whose shape is not known before the graph runs.

    Args:
        operations: the operations whose outputs are checked.

    Returns:
        The tensors, without the handles of variables.
    """
    return [
        tensor
        for operation in operations
        for tensor in operation.outputs
        if tensor.dtype.base_dtype != tf.resource and not tensor.shape.is_fully_defined()
    ]


def write(params: Any, device: Any, folder: Path) -> None:
    """Write the three files that describe a run.

    Args:
        params: a `config.Params`.
        device: a `devices.Device`.
        folder: the folder to write to.

    Raises:
        OSError: a file can't be written.
    """
    graph = blank_graph(params, device)
    with artifacts.atomic_file(folder / "config.pb", "wb") as stream:
        stream.write(device.config.SerializeToString())
    # TensorFlow 2 can serialise variables only while their graph is the default graph.
    with artifacts.atomic_file(folder / "graph.meta", "wb") as stream, graph.graph.as_default():
        shaped = graph.graph.as_graph_def(add_shapes=True)
        stream.write(tf.train.export_meta_graph(graph_def=shaped, saver_def=graph.saver.saver_def).SerializeToString())
    with artifacts.atomic_file(folder / "summary.md") as stream:
        stream.write("\n".join(_summary(params, device, graph)) + "\n")


def _summary(params, device, graph):
    operations = step_operations(graph)
    yield f"# The run {device.name!r}: what it gives to its device"
    yield ""
    wanted = params.device_options[device.name].workers
    if wanted > 1:
        yield _which_worker(device.workers, wanted)
        yield ""
    build = describe_tensorflow()
    yield f"Kind {device.kind}, TensorFlow {build['version']} (build {build['build']}), Python {build['python']}."
    told = {key: value for key, value in device.record.items() if isinstance(value, (str, int))}
    yield f"Device: {', '.join(f'{key} {value}' for key, value in told.items())}."
    yield ""
    yield from _session(device)
    yield "## A training step"
    yield ""
    train = params.train
    workers = device.workers.count
    yield "{} pictures of {}x{}{}; {} steps an epoch, {} in one session.run{}.".format(
        train.batch_size,
        params.normalise.size,
        params.normalise.size,
        "" if workers == 1 else f" (of {workers} workers together {workers * train.batch_size})",
        train.epoch_size,
        device.steps_per_run,
        "" if device.steps_per_run == 1 else " (by an op IterationOp, which is added when the session is there)",
    )
    yield ""
    inputs = {
        tensor.name: tensor
        for operation in operations
        for tensor in list(operation.inputs) + operation.outputs
        if tensor.op.type in ("IteratorGetNext", "Placeholder")
    }
    yield from _table(
        ("input", "type", "shape"),
        [(name, tensor.dtype.name, tensor.shape.as_list()) for name, tensor in sorted(inputs.items())],
    )
    variables = sorted({each.op.name: each for each in graph.all_variables}.items())
    size = sum(each.shape.num_elements() * each.dtype.size for _, each in variables)
    yield f"{len(variables)} variables, {size / 1e6:.1f} MB, including those of the optimiser and the moving averages."
    yield ""
    kept = [each for each in operations if "_keep_dtype" in each.node_def.attr]
    yield f"{len(operations)} operations, {len(kept)} of them kept in float32 in every precision mode:"
    yield ""
    counts = collections.Counter(operation.type for operation in operations)
    yield from _table(("operation", "count"), sorted(counts.items()))
    if device.workers.count > 1:
        yield from _exchanges(device, operations)
    yield "## Shapes that are open"
    yield ""
    found = open_shapes(operations)
    yield (
        "None."
        if not found
        else (
            "Two kinds are harmless: the reserve spaces of FusedBatchNormV3 are for cuDNN only, and TensorFlow "
            "computes BroadcastGradientArgs from constants before the device sees the graph. "
            "Any other tensor makes the device compile again for each new shape."
        )
    )
    yield ""
    yield from _table(("tensor", "operation", "shape"), [(each.name, each.op.type, each.shape) for each in found])


def _which_worker(workers, wanted):
    if workers.count == wanted:
        return f"Worker 0 of {wanted}; the others have the same graph except for constants."
    return (
        f"The run has {wanted} workers. What they exchange is not shown, and the batch is that of a single worker: "
        f"this Python ({sys.executable}) has no Horovod. Run `make setup-workers` to build it."
    )


def _exchanges(device, operations):
    yield "## What workers exchange in a step"
    yield ""
    step = set(operations)
    made = [each for each in device.workers.exchanges if each.operation in step]
    parts = [
        ("gradients", [each.bytes for each in made if each.of_gradient]),
        ("all else", [each.bytes for each in made if not each.of_gradient]),
        ("together", [each.bytes for each in made]),
    ]
    yield from _table(
        ("what", "exchanges", "bytes from each worker"), [(what, len(sizes), sum(sizes)) for what, sizes in parts]
    )
    if device.skips_overflow:
        yield "The adapter adds one for loss scaling: whether the gradients of any worker overflow."
        yield ""


def _session(device):
    yield "## The session"
    yield ""
    optimizers = device.config.graph_options.rewrite_options.custom_optimizers
    rows = [
        (key, value.WhichOneof("value"), getattr(value, value.WhichOneof("value")))
        for optimizer in optimizers
        for key, value in sorted(optimizer.parameter_map.items())
    ]
    yield from _table(
        ("parameter_map", "field", "value"),
        [(key, field, value.decode("utf-8") if field == "s" else value) for key, field, value in rows],
    )
    plain = tf.ConfigProto()
    plain.CopyFrom(device.config)
    del plain.graph_options.rewrite_options.custom_optimizers[:]
    yield from ("```", str(plain).rstrip(), "```", "")


def _table(columns, rows):
    if rows:
        yield markdown.table(columns, rows)
        yield ""


def main() -> None:
    """Write the description of the run that the command line names.

    Raises:
        SystemExit: the device, the parameters or the folder can't be used.
    """
    parser = argparse.ArgumentParser(
        prog="stages/tf -m covpool.diagnostics.describe", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--device", required=True, help="a name from the device_options of params.yaml")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    options = parser.parse_args()
    try:
        params = load_params()
        wanted = run_options(params, options.device)
        interpreter.hand_on(options.device, wanted, ["-m", "covpool.diagnostics.describe"] + sys.argv[1:])
        workers = first_worker(options.device, wanted)
        if wanted.kind == "npu":
            device = open_npu(options.device, wanted, must_exist=False, workers=workers)
        else:
            device = open_device(options.device, wanted, workers)
        write(params, device, options.out)
    except (DeviceError, ParamsError, OSError) as error:
        sys.exit(f"describe: {error}")
    print(f"describe: see {options.out / 'summary.md'}")


if __name__ == "__main__":
    main()
