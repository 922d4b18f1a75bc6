"""A description of this host: processor, memory, operating system and TensorFlow build."""

import os
import platform
import resource
from typing import Any, Dict

import tensorflow.compat.v1 as tf

from covpool.pipeline.cores import usable_cores

#: The environment variables that affect the speed. If the user has not set them, stages/tf sets some of them.
SPEED_SETTINGS = (
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "TF_DISABLE_MKL",
    "TF_ENABLE_ONEDNN_OPTS",
)


def cpu_name() -> str:
    """Return the name of the processor.

    Returns:
        The model name that Linux reports, or the name or architecture that Python reports if there is none.
    """
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_host() -> Dict[str, Any]:
    """Describe this host.

    Returns:
        A dictionary: `cpu` (the name of the processor), `cores` (the number that this process may use),
        `memory_bytes`, `system`, and `settings` (the environment variables that affect the speed).
    """
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "settings": {name: os.environ[name] for name in SPEED_SETTINGS if name in os.environ},
    }


def describe_tensorflow() -> Dict[str, str]:
    """Describe the TensorFlow of this process.

    Returns:
        A dictionary: `version`, `build` and `python` (the version of Python). The build is `stock`, `intel` (with
        oneDNN) or `tf2`.
    """
    version = tf.version.VERSION
    if not version.startswith("1."):
        build = "tf2"
    else:
        from tensorflow.python import pywrap_tensorflow

        build = "intel" if pywrap_tensorflow.IsMklEnabled() else "stock"
    return {"version": version, "build": build, "python": platform.python_version()}


def peak_memory() -> int:
    """Return the peak resident memory of this process.

    Returns:
        The peak in bytes.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
