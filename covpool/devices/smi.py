"""The accelerators of this host, as the drivers' tools `nvidia-smi` and `npu-smi` report them."""

import collections
import contextlib
import math
import os
import re
import signal
import subprocess
from typing import Dict, List, Optional, Union

#: One accelerator. number: the number that the tool shows. name: the product name. driver: the driver's version, or
#: None if it is unknown.
Accelerator = collections.namedtuple("Accelerator", ["number", "name", "driver"])

#: The current power in watts and the memory in use by all processes in bytes. Each is None if the tool does not report
#: it.
Usage = collections.namedtuple("Usage", ["watts", "used_bytes"])
UNTOLD = Usage(None, None)

#: The time limit of a tool before a run starts, in seconds.
PATIENCE = 60
#: The time limit of a tool during a run, in seconds.
PATIENCE_BESIDE_A_RUN = 5

#: Both tools report memory in this unit, even if they print another name for it.
MEBIBYTE = 2**20


def nvidia_gpus() -> List[Accelerator]:
    """List the GPUs that nvidia-smi shows.

    Returns:
        The GPUs. The list is empty if nvidia-smi is missing or fails.
    """
    told = _told("nvidia-smi", "--query-gpu=index,name,driver_version", "--format=csv,noheader")
    rows = [[cell.strip() for cell in line.split(",")] for line in told.splitlines()]
    return [Accelerator(int(row[0]), row[1], row[2]) for row in rows if len(row) == 3 and row[0].isdigit()]


def nvidia_driver(card: Union[int, str]) -> Optional[str]:
    """Return the version of the driver of a GPU.

    Args:
        card: The number or UUID of the card.

    Returns:
        The version, or None if nvidia-smi does not report it.
    """
    told = _told("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", f"--id={card}")
    return told.strip() or None


def nvidia_usage(card: Union[int, str]) -> Usage:
    """Measure the power and memory of a GPU.

    Args:
        card: The number or UUID of the card.

    Returns:
        The Usage. A value that nvidia-smi does not report is None.
    """
    told = _told(
        "nvidia-smi",
        "--query-gpu=power.draw,memory.used",
        "--format=csv,noheader,nounits",
        f"--id={card}",
        patience=PATIENCE_BESIDE_A_RUN,
    )
    cells = told.strip().split(",")
    if len(cells) != 2:
        return UNTOLD
    watts, mebibytes = map(_number, cells)
    return Usage(watts, _bytes(mebibytes))


# npu-smi prints a table. Each chip has two lines:
# - the number of its card, the product, the health and the power;
# - the number of the chip on the card, in some versions also its number in the driver (Phy-ID, Device), and the memory.
# If a card has two chips, only the first chip shows the power.
#   | npu-smi 24.1.0                   Version: 24.1.0                                               |
#   | NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
#   | Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
#   | 0     Ascend910           | OK            | 181.4       36                0    / 0             |
#   | 0     0                   | 0000:9D:00.0  | 0           0    / 0          3447 / 65536         |
#   | 0     Ascend910           | OK            | -           36                0    / 0             |
#   | 1     1                   | 0000:9F:00.0  | 0           0    / 0          3188 / 65536         |
_NPU_VERSION = re.compile(r"npu-smi\s+v?(\d[\w.]*)")
_CARD = re.compile(
    r"\|\s*(?P<card>\d+)\s+(?P<name>[A-Za-z0-9_-]*[A-Za-z][A-Za-z0-9_-]*)\s*\|\s*[A-Za-z]+\s*\|\s*(?P<watts>\S+)"
)
_CHIP = re.compile(r"\|\s*\d+(?:\s+(?P<number>\d+))?\s*\|[^|]*\|(?P<figures>[^|]*)\|")
#: Used and total memory, in the last column of a chip's line. Without the heading HBM-Usage, the column describes a
#: different memory.
_HBM, _LAST_PAIR = "HBM-Usage(MB)", re.compile(r"(\d+)\s*/\s*(\d+)\s*\Z")


def ascend_npus() -> List[Accelerator]:
    """List the NPUs that npu-smi shows.

    Returns:
        The NPUs. The list is empty if npu-smi is missing or fails.
    """
    return [npu for _, npu, _ in _npu_table(_told("npu-smi", "info"))]


def ascend_power_at() -> Dict[int, int]:
    """Find the chip that shows the power of the card, for each chip.

    Returns:
        {number of a chip: number of the chip that shows its power}. The latter is the chip itself, or the first chip
        of its card that shows a power.
    """
    shown = _npu_table(_told("npu-smi", "info"))
    tells = {}
    for card, npu, usage in shown:
        if usage.watts is not None:
            tells.setdefault(card, npu.number)
    return {
        npu.number: npu.number if usage.watts is not None else tells.get(card, npu.number) for card, npu, usage in shown
    }


def ascend_usage(number: int, power_at: Optional[int] = None) -> Usage:
    """Measure the power and memory of an NPU.

    Args:
        number: The number of the chip.
        power_at: The number of the chip that shows the power of the card. None means the chip itself.

    Returns:
        The Usage, with the power of the card and the HBM of the chip. A value that npu-smi does not report is None.
    """
    shown = _npu_table(_told("npu-smi", "info", patience=PATIENCE_BESIDE_A_RUN))
    usages = {npu.number: usage for _, npu, usage in shown}
    power = usages.get(number if power_at is None else power_at, UNTOLD)
    return Usage(power.watts, usages.get(number, UNTOLD).used_bytes)


def _npu_table(told):
    """Parse npu-smi's table into a list of (card number, Accelerator, Usage), with the driver's number of each chip."""
    version = _NPU_VERSION.search(told)
    lines = [line.strip() for line in told.splitlines()]
    found = []
    for line, following in zip(lines, lines[1:]):
        card, chip = _CARD.match(line), _CHIP.match(following)
        if card:
            # If the table does not show the driver's numbers, each card has one chip.
            number = chip and chip.group("number") or card.group("card")
            pair = chip and _HBM in told and _LAST_PAIR.search(chip.group("figures").strip())
            # A chip without HBM shows 0 / 0.
            used = _number(pair.group(1)) if pair and int(pair.group(2)) else None
            npu = Accelerator(int(number), card.group("name"), version and version.group(1))
            found.append((int(card.group("card")), npu, Usage(_number(card.group("watts")), _bytes(used))))
    return found


def _number(text):
    """Parse a number of a tool's output. Return None for `[N/A]`, `[Not Supported]`, `NA`, `-` and similar texts."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _bytes(mebibytes):
    return None if mebibytes is None else int(mebibytes * MEBIBYTE)


def _told(*command, patience=PATIENCE):
    """Run a tool and return its output, or "" if it is missing, fails, or needs more than `patience` seconds."""
    try:
        # The tool runs in a separate session, so that Ctrl-C does not reach it. It can be killed with its child
        # processes.
        tool = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError:
        return ""
    with contextlib.closing(tool.stdout):
        try:
            out, _ = tool.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            _end(tool)
            return ""
    return out.decode("utf-8", "replace") if tool.returncode == 0 else ""


def _end(tool):
    with contextlib.suppress(OSError):
        os.killpg(tool.pid, signal.SIGKILL)
    # A tool that is blocked inside the driver may never end.
    with contextlib.suppress(subprocess.TimeoutExpired):
        tool.wait(timeout=1)
