"""What a session configuration and a graph must be to run on an NPU; ContractError where they are not."""

import collections
import csv
import json
import os
import re
from pathlib import Path

import tensorflow.compat.v1 as tf

GENERATION = os.environ.get("NPU_BRIDGE_GENERATION", "2026")
_DATA = Path(__file__).resolve().parent.parent.parent
_MIXED = (
    "allow_mix_precision",
    "allow_mix_precision_fp16",
    "allow_mix_precision_bf16",  # precision_mode
    "mixed_float16",
    "mixed_bfloat16",
    "mixed_hif8",  # precision_mode_v2
)
_SHAPE_RANGE = {"input_shape", "dynamic_dims", "dynamic_node_type"}
_RESERVE_SPACE = 5


class ContractError(Exception):
    """What a real adapter would end the process for, pass over in silence, or fail to compile."""


def read_table(name):
    """The rows of a table of facts beside the tests; lines that start with # are about it."""
    with open(str(_DATA / name), newline="") as stream:
        return list(csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t"))


_KEYS = {row["key"]: row for row in read_table("npu_parameter_map.tsv")}
_OPERATIONS = {row["operation"]: row["status"] for row in read_table("npu_operations.tsv")}


def _require(good, text, *values):
    if not good:
        raise ContractError(text.format(*values))


def check_config(config):
    """The parameter_map {key: value} of a ConfigProto."""
    rewriting = config.graph_options.rewrite_options
    _require(rewriting.remapping == rewriting.OFF, "remapping is {}", rewriting.remapping)
    _require(rewriting.memory_optimization in (1, 2), "memory_optimization is {}", rewriting.memory_optimization)
    names = [each.name for each in rewriting.custom_optimizers]
    _require(names == ["NpuOptimizer"], "custom optimizers are {}", names)
    parameters = {}
    for key, value in rewriting.custom_optimizers[0].parameter_map.items():
        parameters[key] = _checked(key, value)
    _check_together(parameters)
    return parameters


def _checked(key, value):
    _require(key in _KEYS, "{}: the adapter reads no such key", key)
    row = _KEYS[key]
    _require(row["adapters"] in ("both", GENERATION), "{}: read by the adapter of {} only", key, row["adapters"])
    field = value.WhichOneof("value")
    _require(field == row["field"], "{}: is in the field {}, wanted {}", key, field, row["field"])
    found = getattr(value, field)
    found = found.decode("utf-8") if field == "s" else found
    _require(_legal(row["legal"], found), "{}: {!r} is not {}", key, found, row["legal"])
    return found


def _legal(rule, value):
    if rule == "bool":
        return isinstance(value, bool)
    if rule.startswith("int"):
        low, _, high = rule[3:].strip().partition("..")
        return (not low or value >= int(low)) and (not high or value <= int(high))
    if rule == "folder":
        return os.path.isdir(value) and os.access(value, os.R_OK | os.W_OK)
    if rule == "file":
        return os.path.isabs(value) and os.path.isfile(value) and os.access(value, os.R_OK)
    if rule == "json":
        return _is_table(value)
    if rule == "path":
        return os.path.isabs(value)
    if rule == "dump_step":
        items = value.split("|")
        pairs = [item.split("-") for item in items if re.match(r"\d+(-\d+)?\Z", item)]
        return len(items) == len(pairs) <= 100 and all(len(pair) == 1 or int(pair[0]) < int(pair[1]) for pair in pairs)
    if rule.startswith("pattern "):
        return bool(re.match(rule[len("pattern ") :] + r"\Z", value))
    if rule == "text":
        return bool(value)
    choices = [choice.partition("@") for choice in rule.split("|")]
    return value in [choice for choice, _, since in choices if not since or since == GENERATION]


def _is_table(text):
    """Whether it is the text of a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _check_together(parameters):
    for key, value in parameters.items():
        needed = _KEYS[key]["needs"]
        _require(not needed or not value or parameters.get(needed), "{} needs {}", key, needed)
    _require(not (parameters.get("enable_dump") and parameters.get("enable_dump_debug")), "two dumps at once")
    _require(not (parameters.get("enable_compress_weight") and "compress_weight_conf" in parameters), "both compress")
    _require(len(_SHAPE_RANGE & set(parameters)) in (0, 3), "all three or none of {}", _SHAPE_RANGE)
    _require(not {"precision_mode", "precision_mode_v2"} <= set(parameters), "two precision modes")
    mixed = {parameters.get("precision_mode"), parameters.get("precision_mode_v2")} & set(_MIXED)
    _require("modify_mixlist" not in parameters or mixed, "modify_mixlist without a mix precision mode")
    loops = parameters.get("iterations_per_loop", 1)
    _require(loops == 1 or not parameters.get("mix_compile_mode"), "a loop in mixed compilation")
    _require(loops == 1 or parameters.get("enable_data_pre_proc"), "a loop without enable_data_pre_proc")
    _require(parameters.get("use_off_line"), "use_off_line is off: nothing would run on the device")


def connected(environment):
    """How many workers HCCL connects, as the adapter's plug-in decides it; where it connects none, it says so only
    in its log, and each would train by itself.
    """
    table, chief = environment.get("RANK_TABLE_FILE"), environment.get("CM_CHIEF_IP")
    _require(not (table and chief), "CM_CHIEF_IP and RANK_TABLE_FILE cannot be configured at the same time")
    if table:
        _require("CM_WORKER_SIZE" not in environment, "CM_WORKER_SIZE beside a rank table: nothing is connected")
        _require(environment.get("RANK_ID"), "a rank table and no RANK_ID")
        size = int(environment.get("RANK_SIZE", 0))
    else:
        _require(all(environment.get("CM_CHIEF_" + name) for name in ("IP", "PORT", "DEVICE")), "no chief, no table")
        _require("RANK_SIZE" not in environment, "RANK_SIZE beside a chief: nothing is connected")
        size = int(environment.get("CM_WORKER_SIZE", 0))
    _require(size > 0, "the number of workers is not given")
    return size


def workers(environment):
    """How many the environment speaks of, 0 where it says nothing: a graph can be built without it."""
    return int(environment.get("RANK_SIZE") or environment.get("CM_WORKER_SIZE") or 0)


def on_device(fetched):
    """The operations that a run of `fetched` gives to the device: all but the host's input pipeline and its text."""
    todo, found = list(fetched), collections.OrderedDict()
    while todo:
        operation = todo.pop()
        if operation in found or _is_the_hosts(operation):
            continue
        found[operation] = True
        todo.extend(each.op for each in operation.inputs)
        todo.extend(operation.control_inputs)
    return list(found)


def _is_the_hosts(operation):
    types = {tensor.dtype.base_dtype for tensor in list(operation.inputs) + operation.outputs}
    # The iterator, checkpoints and summaries; a Saver's pieces between reading a file and a variable.
    return (
        bool(types & {tf.string, tf.variant})
        or operation.type.startswith("Iterator")
        or (operation.name.startswith("save/"))
    )


def is_the_adapters(operation):
    """Whether it stands here for an operation of the adapter's own."""
    return "npu_bridge" in re.split(r"[/]", re.sub(r"_\d+(?=/)", "", operation.name))


def check_loop(graph, parameters):
    """Whatever a session runs: with loops on the device its graph has a Dataset with an initialisable iterator."""
    looped = parameters.get("iterations_per_loop", 1) > 1 or parameters.get("enable_data_pre_proc")
    fed = any(each.type.startswith("MakeIterator") for each in graph.get_operations()) if looped else True
    _require(fed, "a loop, or enable_data_pre_proc, needs a Dataset with an initialisable iterator")


def check_graph(fetched, parameters):
    """Every operation of a run is on record as supported, and every shape is known before it runs."""
    allowed = ("yes", "gray") if parameters.get("mix_compile_mode") else ("yes",)
    constant = {}
    for operation in on_device(fetched):
        if is_the_adapters(operation):
            continue
        status = _OPERATIONS.get(operation.type, "not on record")
        _require(status in allowed, "{}: the operation {} is {}", operation.name, operation.type, status)
        for number, tensor in enumerate(operation.outputs):
            # What only cuDNN uses; its shape is open in every TensorFlow 1.15 graph.
            if operation.type == "FusedBatchNormV3" and number == _RESERVE_SPACE:
                continue
            known = tensor.dtype.base_dtype == tf.resource or tensor.shape.is_fully_defined()
            # TensorFlow computes it before the adapter sees the graph.
            _require(known or _is_constant(operation, constant), "{}: the shape is {}", tensor.name, tensor.shape)


def _is_constant(operation, known):
    if operation not in known:
        known[operation] = operation.type == "Const" or (
            bool(operation.inputs) and all(_is_constant(each.op, known) for each in operation.inputs)
        )
    return known[operation]
