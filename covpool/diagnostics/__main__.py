"""Prints what this host and this Python have for a run: `stages/tf -m covpool.diagnostics`.

For each entry of `device_options` in params.yaml it prints whether a run on that device could start. If not, it prints
the error message of the run. A separate process tests each entry, see `probe`. No graph is run, and nothing is written.
"""

import os
import re
import sys
from typing import Iterator, List, Tuple

import tensorflow.compat.v1 as tf

from covpool.config import ParamsError, load_params
from covpool.devices import DeviceError, bridge, describe_host, describe_tensorflow, smi
from covpool.diagnostics import probe

#: The processor features that TensorFlow's kernels use.
CPU_FEATURES = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "amx_bf16", "asimd", "sve")
#: The variables that select an NPU or connect several NPUs. Either a rank table or the CM variables describe the
#: cluster.
ASCEND_VARIABLES = (
    "ASCEND_DEVICE_ID",
    "DEVICE_ID",
    "ASCEND_VISIBLE_DEVICES",
    "RANK_SIZE",
    "RANK_ID",
    "JOB_ID",
    "RANK_TABLE_FILE",
    "CM_CHIEF_IP",
    "CM_CHIEF_PORT",
    "CM_CHIEF_DEVICE",
    "CM_WORKER_SIZE",
    "CM_WORKER_IP",
    "HCCL_CONNECT_TIMEOUT",
    "HCCL_EXEC_TIMEOUT",
    "HCCL_ALGO",
    "HCCL_WHITELIST_DISABLE",
    "HCCL_IF_IP",
)
CUDA_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_TF32_OVERRIDE")


def cpu_features() -> List[str]:
    """List the processor's features that TensorFlow's kernels use.

    Returns:
        The names from `CPU_FEATURES` that /proc/cpuinfo lists, in their order. Empty if that file can't be read.
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            found = re.search(r"^(?:flags|Features)\s*:(.*)$", stream.read(), re.MULTILINE)
    except OSError:
        return []
    flags = found.group(1).split() if found else []
    return [feature for feature in CPU_FEATURES if feature in flags]


def rows() -> Iterator[Tuple[str, str]]:
    """Describe the host, this Python and the runs.

    Yields:
        The title and the text of each line that is printed.

    Raises:
        ParamsError: params.yaml is missing or not valid.
    """
    # The import of npu_bridge below may change the environment. The probes get the environment from before it.
    environment = dict(os.environ)
    build, host = describe_tensorflow(), describe_host()
    yield "Python", f"{build['python']} ({sys.executable})"
    yield (
        "TensorFlow",
        f"{build['version']}, build {build['build']}"
        + (", with CUDA" if tf.test.is_built_with_cuda() else ", without CUDA"),
    )
    yield "Processor", f"{host['cpu']}, {host['cores']} cores for this process"
    yield "Its features", " ".join(cpu_features()) or "unknown"
    yield "Memory", f"{host['memory_bytes'] / 2**30:.1f} GiB"
    yield "GPUs", _shown(smi.nvidia_gpus(), "nvidia-smi")
    yield "CUDA", "; ".join(_variables(CUDA_VARIABLES)) or "no variable set"
    yield "npu_bridge", _npu_bridge()
    yield "NPUs", _shown(smi.ascend_npus(), "npu-smi")
    yield "Ascend, HCCL", "; ".join(_variables(ASCEND_VARIABLES)) or "no variable set"
    for name in load_params().device_options:
        yield f"Run {name}", probe.run(name, environment)


def _shown(accelerators, tool):
    return (
        "; ".join(f"{each.number} {each.name} (driver {each.driver})" for each in accelerators) or f"{tool} shows none"
    )


def _variables(names):
    return [f"{name}={os.environ[name]}" for name in names if name in os.environ]


def _npu_bridge():
    try:
        found = bridge.load("npu")
    except DeviceError:
        return "can't be imported, see below" if bridge.is_installed() else "not installed"
    return f"{found.version or 'version unknown'}, like the adapter of {found.generation}"


def main() -> None:
    """Print all rows.

    Raises:
        SystemExit: params.yaml is missing or not valid.
    """
    try:
        for what, text in rows():
            print(f"{what:<13} {text}", flush=True)
    except ParamsError as error:
        sys.exit(f"devices: {error}")


if __name__ == "__main__":
    main()
