"""What the drivers' own tools, `nvidia-smi` and `npu-smi`, say of the accelerators of this host."""

import collections
import contextlib
import math
import os
import re
import signal
import subprocess

#: number: as the tool counts; name: the product; driver: its version, or None where the tool does not say.
Accelerator = collections.namedtuple("Accelerator", ["number", "name", "driver"])

#: What an accelerator draws and has in use at the moment, by all processes; None for what the tool does not tell.
Usage = collections.namedtuple("Usage", ["watts", "used_bytes"])
UNTOLD = Usage(None, None)

#: Seconds that a tool has to answer: before a run starts, and beside one.
PATIENCE = 60
PATIENCE_BESIDE_A_RUN = 5

#: Both tools count memory in these, whatever they call them.
MEBIBYTE = 2**20


def nvidia_gpus():
    """The GPUs that nvidia-smi shows, a list of Accelerator; empty where there is no nvidia-smi."""
    told = _told("nvidia-smi", "--query-gpu=index,name,driver_version", "--format=csv,noheader")
    rows = [[cell.strip() for cell in line.split(",")] for line in told.splitlines()]
    return [Accelerator(int(row[0]), row[1], row[2]) for row in rows if len(row) == 3 and row[0].isdigit()]


def nvidia_driver(card):
    """The driver's version by nvidia-smi, for a card by number or UUID; None where it can't tell."""
    told = _told("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", f"--id={card}")
    return told.strip() or None


def nvidia_usage(card):
    """The Usage of a card by number or UUID."""
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


# npu-smi prints a table for people. Each chip has two lines: its card's number, product, health and power; and its own
# number on the card, in some versions the one that the driver counts it by (Phy-ID, Device), and memory. On a card of
# two chips the power stands at the first one only.
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
#: Used and all of it, the last column of a chip's line. Before there was HBM-Usage, it is another memory's.
_HBM, _LAST_PAIR = "HBM-Usage(MB)", re.compile(r"(\d+)\s*/\s*(\d+)\s*\Z")


def ascend_npus():
    """The NPUs that npu-smi shows, a list of Accelerator; empty where there is no npu-smi."""
    return [npu for _, npu, _ in _npu_table(_told("npu-smi", "info"))]


def ascend_power_at():
    """{number: number}: for each chip the one at which the power of its card stands: itself, or the card's first."""
    shown = _npu_table(_told("npu-smi", "info"))
    tells = {}
    for card, npu, usage in shown:
        if usage.watts is not None:
            tells.setdefault(card, npu.number)
    return {
        npu.number: npu.number if usage.watts is not None else tells.get(card, npu.number) for card, npu, usage in shown
    }


def ascend_usage(number, power_at=None):
    """The Usage of the NPU of this number: its own HBM, and the power that stands at `power_at`, or at itself."""
    shown = _npu_table(_told("npu-smi", "info", patience=PATIENCE_BESIDE_A_RUN))
    usages = {npu.number: usage for _, npu, usage in shown}
    power = usages.get(number if power_at is None else power_at, UNTOLD)
    return Usage(power.watts, usages.get(number, UNTOLD).used_bytes)


def _npu_table(told):
    """(card, Accelerator, Usage) for each chip of npu-smi's table, by the number that the driver counts it by."""
    version = _NPU_VERSION.search(told)
    lines = [line.strip() for line in told.splitlines()]
    found = []
    for line, following in zip(lines, lines[1:]):
        card, chip = _CARD.match(line), _CHIP.match(following)
        if card:
            # Where the table has no number of the driver's, a card has one chip.
            number = chip and chip.group("number") or card.group("card")
            pair = chip and _HBM in told and _LAST_PAIR.search(chip.group("figures").strip())
            # A chip without such memory has 0 of 0.
            used = _number(pair.group(1)) if pair and int(pair.group(2)) else None
            npu = Accelerator(int(number), card.group("name"), version and version.group(1))
            found.append((int(card.group("card")), npu, Usage(_number(card.group("watts")), _bytes(used))))
    return found


def _number(text):
    """A figure as a tool prints it; None for `[N/A]`, `[Not Supported]`, `NA`, `-` and the like."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _bytes(mebibytes):
    return None if mebibytes is None else int(mebibytes * MEBIBYTE)


def _told(*command, patience=PATIENCE):
    """What a tool prints; nothing where it is absent, ends with an error, or does not answer within `patience`."""
    try:
        # In a session of its own: a Ctrl-C is not for it, and it can be ended with all that it has started.
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
    # One that waits inside of the driver ends when the driver lets it, perhaps never.
    with contextlib.suppress(subprocess.TimeoutExpired):
        tool.wait(timeout=1)
