"""Every key that Ascend's TensorFlow 1.15 adapter reads from NpuOptimizer's `parameter_map`, and what it may hold.

The adapter itself refuses no unknown key, reads a value in the wrong field as the default, and ends the process on some
wrong values. So the map is built from this table, and what is not in it is refused by name, before TensorFlow starts.
Read off the adapter's sources (tf_adapter/util/npu_attrs.cc): Ascend/tensorflow 82507eb of February 2021 and
hicann/tensorflow 82957b9 of July 2026. Between the two a key may be read or not: an adapter counts as the newer one if
it has what only that one has (`devices.bridge`).

Plain Python, because both interpreters read the parameters.
"""

import collections
import difflib
import re
from typing import Any, Dict, List, Tuple

from covpool.config import rules

#: The adapter's two generations, by the year of the sources.
OLD, NEW = "2021", "2026"

#: key; field: of the parameter_map, `b` bool, `i` int, `s` bytes; rule: for its value; adapters: the generations that
#: read it; instead: what to give an adapter that does not read it; given_by: the option that sets it; new_values: those
#: that only the newer generation knows.
Parameter = collections.namedtuple("Parameter", "key field rule adapters instead given_by new_values")


def _parameter(key, field, rule, adapters=(OLD, NEW), instead="", given_by="", new_values=()):
    return Parameter(key, field, rule, adapters, instead, given_by, new_values)


def _flag(key, **more):
    return _parameter(key, "b", rules.flag(), **more)


def _whole(key, low=None, high=None, **more):
    return _parameter(key, "i", rules.whole(low, high), **more)


def _choice(key, *values, **more):
    return _parameter(key, "s", rules.choice(*values), **more)


def _digits(key, **more):
    return _parameter(key, "s", rules.matching(r"\d+", "bytes, in decimal digits, as text"), **more)


def _text(key, expected="", **more):
    return _parameter(key, "s", rules.text(empty=False, expected=expected), **more)


def _path(key, **more):
    return _parameter(key, "s", rules.absolute_path(), **more)


def _dump_steps():
    """`3|5-9`: numbers and rising ranges, 100 at most."""

    def allows(value):
        if not isinstance(value, str) or not re.match(r"\d+(-\d+)?(\|\d+(-\d+)?)*\Z", value):
            return False
        items = [[int(number) for number in item.split("-")] for item in value.split("|")]
        return len(items) <= 100 and all(len(item) == 1 or item[0] < item[1] for item in items)

    return rules.Rule("steps as in 0|5|10-20, 100 at most", allows)


_NEW = {"adapters": (NEW,)}
_OLD_PRECISIONS = (
    "allow_fp32_to_fp16",
    "force_fp16",
    "must_keep_origin_dtype",
    "allow_mix_precision",
    "force_fp32",
)
_NEW_PRECISIONS = (
    "cube_fp16in_fp32out",
    "allow_mix_precision_fp16",
    "allow_mix_precision_bf16",
    "allow_fp32_to_bf16",
)
PRECISION_MODES = _OLD_PRECISIONS + _NEW_PRECISIONS
MIX_PRECISIONS = ("allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16")
_MIX_PRECISIONS_V2 = ("mixed_float16", "mixed_bfloat16", "mixed_hif8")

PARAMETERS = {
    parameter.key: parameter
    for parameter in (
        # What options by name set (`session_parameters`)
        _choice("precision_mode", *PRECISION_MODES, given_by="precision_mode", new_values=_NEW_PRECISIONS),
        _whole("iterations_per_loop", 1, given_by="iterations_per_loop"),
        _flag("enable_data_pre_proc", given_by="iterations_per_loop"),
        _flag("mix_compile_mode", given_by="mix_compile_mode"),
        _path("fusion_switch_file", given_by="fusion_switch_file"),
        _whole("deterministic", 0, 1, given_by="deterministic", **_NEW),
        _choice("op_compiler_cache_mode", "enable", "disable", "force", given_by="op_cache"),
        _path("op_compiler_cache_dir", given_by="op_cache"),
        _flag("profiling_mode", given_by="profiling"),
        _parameter("profiling_options", "s", rules.json_object(), given_by="profiling"),
        _flag("enable_dump", given_by="dump"),
        _path("dump_path", given_by="dump"),
        _flag("use_off_line", given_by="kind"),
        _whole("session_device_id", 0, given_by="visible_device"),
        # Numbers and operators
        _choice(
            "precision_mode_v2",
            "fp16",
            "origin",
            "cube_fp16in_fp32out",
            "mixed_float16",
            "mixed_bfloat16",
            "cube_hif8",
            "mixed_hif8",
            **_NEW,
        ),
        _path("modify_mixlist", **_NEW),
        _path("customize_dtypes", **_NEW),
        _choice(
            "op_select_implmode",
            "high_precision",
            "high_performance",
            "high_precision_for_all",
            "high_performance_for_all",
            new_values=("high_precision_for_all", "high_performance_for_all"),
        ),
        _text("optypelist_for_implmode", "operators, with commas between them"),
        _path("op_precision_mode", **_NEW),
        _choice("jit_compile", "true", "false", "auto", **_NEW),
        _choice("shape_generalization_mode", "STRICT", "FULL", "ADAPTIVE", **_NEW),
        # Debugging
        _flag("enable_dump_debug"),
        _parameter("dump_step", "s", _dump_steps()),
        _choice("dump_mode", "input", "output", "all"),
        _choice("dump_debug_mode", "aicore_overflow", "atomic_overflow", "all"),
        _choice("dump_data", "tensor", "stats", **_NEW),
        _text("dump_layer", **_NEW),
        _text("quant_dumpable", **_NEW),
        _whole("enable_exception_dump", 0, 2),
        _whole("op_debug_level", 0, 4, adapters=(OLD,), instead="op_debug_config"),
        _path("op_debug_config", **_NEW),
        _path("debug_dir"),
        _whole("export_compile_stat", 0, 2, **_NEW),
        # Compilation and fusion
        _text("enable_scope_fusion_passes", "passes, with commas between them"),
        _choice("buffer_optimize", "l2_optimize", "off_optimize"),
        _whole("enable_small_channel", 0, 1),
        _flag("enable_compress_weight"),
        _path("compress_weight_conf"),
        _flag("variable_format_optimize", adapters=(OLD,), instead="nothing: it is always on"),
        _flag("lower_functional_ops"),
        _whole("graph_run_mode", 0, 1),
        _path("graph_compiler_cache_dir", **_NEW),
        _choice("graph_slice", "auto", "manual", **_NEW),
        _whole("compile_hybrid_mode", 0, 1, **_NEW),
        _flag("compile_dynamic_mode", **_NEW),
        _flag("frozen_variable", **_NEW),
        _flag("external_weight", **_NEW),
        _text("variable_placement", **_NEW),
        _whole("topo_sorting_mode", **_NEW),
        _path("insert_op_file", **_NEW),
        _text("optimization_switch", **_NEW),
        _flag("oo_constant_folding", **_NEW),
        _text("oo_level", **_NEW),
        _text("experimental_accelerate_train_mode", **_NEW),
        # Tuning
        _choice("auto_tune_mode", "GA", "RL", "RL,GA", adapters=(OLD,), instead="aoe_mode with work_path"),
        _choice("mstune_mode", "1", "2", "3", "4", adapters=(OLD,), instead="aoe_mode with work_path"),
        _choice("aoe_mode", "1", "2", "4", **_NEW),
        _path("aoe_config_file", **_NEW),
        _path("work_path"),
        # Memory, streams and time limits
        _digits("graph_memory_max_size", adapters=(OLD,), instead="nothing: it has no effect any more"),
        _digits("variable_memory_max_size", adapters=(OLD,), instead="nothing: it has no effect any more"),
        _whole("atomic_clean_policy", **_NEW),
        _whole("static_memory_policy", **_NEW),
        _text("memory_optimization_policy", **_NEW),
        _whole("variable_use_1g_huge_page", 0, 2, **_NEW),
        _whole("input_fusion_size", **_NEW),
        _flag("input_batch_cpy", **_NEW),
        _text("stream_max_parallel_num", "streams as in DNN_VM_AICPU:10,AIcoreEngine:1"),
        _text("ac_parallel_enable", **_NEW),
        _text("auto_multistream_parallel_mode", **_NEW),
        _whole("graph_max_parallel_model_num", **_NEW),
        _whole("op_execute_timeout", **_NEW),
        _whole("op_wait_timeout", **_NEW),
        _whole("hccl_timeout", **_NEW),
        _whole("graph_exec_timeout", **_NEW),
        _whole("stream_sync_timeout", **_NEW),
        _whole("event_sync_timeout", **_NEW),
        # The chip
        _text("soc_config", **_NEW),
        _text("aicore_num", **_NEW),
        _text("device_type", **_NEW),
        _path("resource_config_path", **_NEW),
        # Several devices
        _flag("hcom_parallel"),
        _flag("hcom_multi_mode"),
        _text("HCCL_algorithm", **_NEW),
        _flag("is_tailing_optimization"),
        _text("job"),
        _whole("task_index", 0),
        _whole("local_rank_id", 0, 7),
        _parameter("local_device_list", "s", rules.matching(r"\d+(,\d+)*", "numbers, with commas between them")),
        _path("distribute_config", **_NEW),
        _flag("enable_graph_parallel", **_NEW),
        _path("graph_parallel_option_path", **_NEW),
        _text("experimental_logical_device_cluster_deploy_mode", **_NEW),
        _text("experimental_logical_device_id", **_NEW),
        _text("experimental_model_deploy_mode", **_NEW),
        _text("experimental_model_deploy_devicelist", **_NEW),
        # Shapes that are open, which this project's graphs do not have
        _flag("dynamic_input"),
        _choice("dynamic_graph_execute_mode", "lazy_recompile", "dynamic_execute"),
        _text("dynamic_inputs_shape_range"),
        _text("input_shape"),
        _text("dynamic_dims"),
        _whole("dynamic_node_type", 0, 1),
        _flag("all_tensor_not_empty", **_NEW),
        _flag("in_out_pair_flag", **_NEW),
        _text("in_out_pair", **_NEW),
    )
}


class AdapterKeys(rules.Rule):
    """The rule for an option `parameter_map`: each key is one that the adapter reads, each value right for its key."""

    def __init__(self):
        super().__init__(
            "keys of the adapter's parameter_map with their values, or {}", lambda value: isinstance(value, dict), dict
        )

    def check(self, value: Any) -> Dict:
        """Return the map. Raises `rules.Wrong` if it is none, `rules.WrongKeys` if keys or values are wrong."""
        checked = super().check(value)
        wrong = wrong_keys(checked)
        if wrong:
            raise rules.WrongKeys(wrong)
        return checked


def wrong_keys(parameter_map: Dict) -> List[Tuple[str, str]]:
    """What is wrong with an option `parameter_map` by itself: [(key, text), ...]."""
    wrong = []
    for key, value in parameter_map.items():
        parameter = PARAMETERS.get(key)
        if parameter is None:
            close = difflib.get_close_matches(str(key), PARAMETERS, 1)
            hint = f"did you mean {close[0]}?" if close else "the adapter reads no key of this name"
            wrong.append((key, "no such key; " + hint))
        elif parameter.given_by:
            wrong.append((key, f"is not given here: the option {parameter.given_by} sets it"))
        else:
            try:
                parameter.rule.check(value)
            except rules.Wrong as error:
                wrong.append((key, str(error)))
    return wrong


def wrong_together(options: Any) -> List[Tuple[str, str]]:
    """What no single option of a `config.NpuOptions` can show: [(option or key, text), ...]."""
    given, wrong = options.parameter_map, []

    def needs(key, there, what):
        if key in given and given[key] is not False and not there:
            wrong.append(("parameter_map." + key, f"is allowed only with {what}"))

    if options.mix_compile_mode and options.iterations_per_loop > 1:
        wrong.append(
            (
                "iterations_per_loop",
                f"expected 1 with mix_compile_mode, got {options.iterations_per_loop}: a loop on the device needs the "
                "whole step there",
            )
        )
    if options.precision_mode and "precision_mode_v2" in given:
        wrong.append(
            (
                "precision_mode",
                f"expected '' with parameter_map.precision_mode_v2, got {options.precision_mode!r}",
            )
        )
    for key in ("enable_dump_debug", "dump_step", "dump_mode", "dump_debug_mode", "dump_data", "dump_layer"):
        needs(key, options.dump, "the option dump, the folder for what is dumped")
    for key in ("mstune_mode", "aoe_mode"):
        needs(key, "work_path" in given, "work_path")
    for key in ("dynamic_graph_execute_mode", "dynamic_inputs_shape_range"):
        needs(key, given.get("dynamic_input"), "dynamic_input")
    for key in ("input_shape", "dynamic_dims", "dynamic_node_type"):
        needs(
            key,
            {"input_shape", "dynamic_dims", "dynamic_node_type"} <= set(given),
            "the two others of input_shape, dynamic_dims and dynamic_node_type",
        )
    needs("optypelist_for_implmode", "op_select_implmode" in given, "op_select_implmode")
    if given.get("enable_compress_weight") and "compress_weight_conf" in given:
        wrong.append(("parameter_map.enable_compress_weight", "is allowed only without compress_weight_conf"))
    mixed = options.precision_mode in MIX_PRECISIONS or given.get("precision_mode_v2") in _MIX_PRECISIONS_V2
    needs("modify_mixlist", mixed, "a mixed precision mode")
    return wrong
