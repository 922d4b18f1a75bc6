"""What this host is: processor, memory, system, and the TensorFlow build that runs."""

import os
import platform
import resource

import tensorflow.compat.v1 as tf

from covpool.pipeline.cores import usable_cores

#: What of the environment has an influence on the speed; stages/tf sets some of it where the user has not.
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


def cpu_name():
    """The processor's name as Linux knows it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_host():
    """Processor, cores this process may use, memory in bytes, system, and settings that influence the speed."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "settings": {name: os.environ[name] for name in SPEED_SETTINGS if name in os.environ},
    }


def describe_tensorflow():
    """Version and build (`stock`, `intel`: with oneDNN, `tf2`) of the TensorFlow that runs, and its Python."""
    version = tf.version.VERSION
    if not version.startswith("1."):
        build = "tf2"
    else:
        from tensorflow.python import pywrap_tensorflow

        build = "intel" if pywrap_tensorflow.IsMklEnabled() else "stock"
    return {"version": version, "build": build, "python": platform.python_version()}


def peak_memory():
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
