"""What a session on an NPU is told: the adapter's parameter_map, from the run's options.

The keys and what they may hold are in `covpool.config.npu_keys`, which refuses all else before TensorFlow starts. So a
value's type tells the field of the map that it belongs into.
"""

import json
import os

from covpool.config import npu_keys


def session_parameters(options, fusion_switch_file):
    """The whole parameter_map of a session by the options of an NPU (`config.NpuOptions`): {key: value}.

    fusion_switch_file: the absolute path of the file that holds where the options name none.
    """
    found = {
        "use_off_line": True,
        "iterations_per_loop": options.iterations_per_loop,
        # A loop on the device takes its batches from a queue there. Without one the host hands over batch by batch.
        "enable_data_pre_proc": options.iterations_per_loop > 1,
        "mix_compile_mode": options.mix_compile_mode,
        "fusion_switch_file": os.path.abspath(options.fusion_switch_file or fusion_switch_file),
    }
    if options.precision_mode:
        found["precision_mode"] = options.precision_mode
    if options.deterministic:
        found["deterministic"] = 1
    if options.op_cache:
        found.update(op_compiler_cache_mode="enable", op_compiler_cache_dir=os.path.abspath(options.op_cache))
    if options.profiling:
        found.update(profiling_mode=True, profiling_options=_profiling_options(os.path.abspath(options.profiling)))
    if options.dump:
        # Either tensors or overflows are dumped, never both.
        tensors = {} if options.parameter_map.get("enable_dump_debug") else {"enable_dump": True}
        found.update(tensors, dump_path=os.path.abspath(options.dump))
    found.update(options.parameter_map)
    return found


def _profiling_options(folder):
    return json.dumps(
        {"output": folder, "training_trace": "on", "task_trace": "on", "aicpu": "on", "fp_point": "", "bp_point": ""}
    )


def unread(parameters, adapter):
    """The keys and values of {key: value} that an adapter of one generation would pass over: [(key, text), ...]."""
    found = []
    for key, value in parameters.items():
        parameter = npu_keys.PARAMETERS[key]
        if adapter not in parameter.adapters:
            instead = f"; use {parameter.instead} instead" if parameter.instead else ""
            found.append((key, f"this npu_bridge does not read it{instead}"))
        elif adapter == npu_keys.OLD and value in parameter.new_values:
            found.append((key, f"this npu_bridge does not know the value {value!r}"))
    return found


def field_of(value):
    """The field of the adapter's parameter_map that holds a value: `b` for a bool, `i` for an int, `s` for text."""
    return "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "s"
