"""What machine this is, and how busy: for the record that stands beside every figure."""

import os
import platform
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CPU_FLAGS = ("avx", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")


def describe():
    """Processor, instruction sets, cores, memory, governor, system, and the load when asked."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first)}
    flags = facts.get("flags", "").split()
    return {
        "cpu": facts.get("model name", platform.machine()),
        "mhz": float(facts.get("cpu MHz", 0)),
        "cache": facts.get("cache size", ""),
        "flags": [each for each in CPU_FLAGS if each in flags],
        "virtual": "hypervisor" in flags,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "governor": _governor(),
        "system": " ".join([platform.system(), platform.release().split("-")[0], *platform.libc_ver()]),
        "load": load(),
    }


def load():
    """The load averages of 1, 5 and 15 minutes."""
    return [round(each, 2) for each in os.getloadavg()]


def _governor():
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text().strip() if path.exists() else None


def process_seconds(number):
    """Seconds of all cores that a process, all its threads together, has used; number: its id."""
    # The second field, the program's name in brackets, may hold blanks.
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def busy_seconds(cores):
    """Seconds that these cores have been busy since the machine started, time stolen by its host included."""
    wanted = {f"cpu{core}" for core in cores}
    total = 0.0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name in wanted:
            user, nice, system, _, _, interrupts, soft, stolen = (int(value) for value in values[:8])
            total += (user + nice + system + interrupts + soft + stolen) / TICKS
    return total


def available_memory():
    """Bytes that a new process could have without anything being swapped."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not say how much memory is available")
