"""The adapter's parameter_map of a session on an NPU, from the options of the run.

`covpool.config.npu_keys` defines the valid keys and values, and rejects all others before TensorFlow starts. Therefore
the type of a value determines its field in the map.
"""

import json
import os
from typing import TYPE_CHECKING, Dict, List, Tuple, Union

from covpool.config import npu_keys

if TYPE_CHECKING:
    from covpool.config import NpuOptions


def session_parameters(options: "NpuOptions", fusion_switch_file: str) -> Dict[str, Union[bool, int, str]]:
    """Create the complete parameter_map of a session.

    Args:
        options: The options of the NPU.
        fusion_switch_file: The absolute path of the default file, for options that don't name a file.

    Returns:
        The parameter_map, {key: value}.
    """
    found = {
        "use_off_line": True,
        "iterations_per_loop": options.iterations_per_loop,
        # A loop on the device reads its batches from a queue on the device. Without a loop, the host sends each batch.
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
        # The adapter dumps either tensors or overflows, but not both.
        tensors = {} if options.parameter_map.get("enable_dump_debug") else {"enable_dump": True}
        found.update(tensors, dump_path=os.path.abspath(options.dump))
    found.update(options.parameter_map)
    return found


def _profiling_options(folder):
    return json.dumps(
        {"output": folder, "training_trace": "on", "task_trace": "on", "aicpu": "on", "fp_point": "", "bp_point": ""}
    )


def unread(parameters: Dict[str, Union[bool, int, str]], adapter: str) -> List[Tuple[str, str]]:
    """Find the keys and values that the adapter would ignore.

    Args:
        parameters: The parameter_map, {key: value}.
        adapter: The generation of the adapter, `npu_keys.OLD` or `npu_keys.NEW`.

    Returns:
        The ignored keys, each with a text that describes the problem.
    """
    found = []
    for key, value in parameters.items():
        parameter = npu_keys.PARAMETERS[key]
        if adapter not in parameter.adapters:
            instead = f"; use {parameter.instead} instead" if parameter.instead else ""
            found.append((key, f"this npu_bridge does not read it{instead}"))
        elif adapter == npu_keys.OLD and value in parameter.new_values:
            found.append((key, f"this npu_bridge does not know the value {value!r}"))
    return found


def field_of(value: Union[bool, int, str]) -> str:
    """Return the field of the adapter's parameter_map that holds a value.

    Args:
        value: The value.

    Returns:
        "b" for a bool, "i" for an int, and "s" for a str.
    """
    return "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "s"
