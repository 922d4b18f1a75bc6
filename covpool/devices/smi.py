"""What the drivers' own tools, `nvidia-smi` and `npu-smi`, say of the accelerators of this host."""

import collections
import re
import subprocess

#: number: as the tool counts; name: the product; driver: its version, or None where the tool does not say.
Accelerator = collections.namedtuple("Accelerator", ["number", "name", "driver"])


def nvidia_gpus():
    """The GPUs that nvidia-smi shows, a list of Accelerator; empty where there is no nvidia-smi."""
    told = _told("nvidia-smi", "--query-gpu=index,name,driver_version", "--format=csv,noheader")
    rows = [[cell.strip() for cell in line.split(",")] for line in told.splitlines()]
    return [Accelerator(int(row[0]), row[1], row[2]) for row in rows if len(row) == 3 and row[0].isdigit()]


def nvidia_driver(card):
    """The driver's version by nvidia-smi, for a card by number or UUID; None where it can't tell."""
    told = _told("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id={}".format(card))
    return told.strip() or None


# npu-smi prints a table for people, two lines an NPU, of which the first holds number, product and health:
#   | npu-smi 23.0.0                       Version: 23.0.0                                          |
#   | 0     910B                | OK            | 71.6        41                0    / 0            |
#   | 0                         | 0000:C1:00.0  | 0           1123 / 15039      1    / 32768        |
_NPU = re.compile(r"\|\s*(\d+)\s+([A-Za-z0-9_-]*[A-Za-z][A-Za-z0-9_-]*)\s*\|\s*[A-Za-z]+\s*\|")
_NPU_VERSION = re.compile(r"npu-smi\s+v?(\d[\w.]*)")


def ascend_npus():
    """The NPUs that npu-smi shows, a list of Accelerator; empty where there is no npu-smi."""
    told = _told("npu-smi", "info")
    version = _NPU_VERSION.search(told)
    found = (_NPU.match(line.strip()) for line in told.splitlines())
    return [Accelerator(int(row.group(1)), row.group(2), version and version.group(1)) for row in found if row]


def _told(*command):
    try:
        found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.decode("utf-8", "replace") if found.returncode == 0 else ""
