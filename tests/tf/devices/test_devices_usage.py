"""What nvidia-smi and npu-smi say of power and memory: their real command lines and output."""

import os
import time

import pytest

from covpool import devices
from covpool.devices import meter, npu, smi

#: `npu-smi info` of a host with two cards of two chips each; the power stands at the first chip of a card.
TWO_CHIPS = """
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.rc3.7               Version: 24.1.rc3.7                                           |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 2     Ascend910           | OK            | 176.3       36                0    / 0             |
| 0     4                   | 0000:95:00.0  | 0           0    / 0          59356/ 65536         |
+------------------------------------------------------------------------------------------------+
| 2     Ascend910           | OK            | -           36                0    / 0             |
| 1     5                   | 0000:97:00.0  | 0           0    / 0          3208 / 65536         |
+===========================+===============+====================================================+
| 3     Ascend910           | Warning       | NA          35                0    / 0             |
| 0     6                   | NA            | NA          0    / 0          0    / 0             |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 2       0                 | 1712733       | python3                  | 56126                   |
+===========================+===============+====================================================+"""

#: An older one: the memory is the DDR's, HBM is not told, and the chip has the number 7 in its second line.
OLDER = """
+------------------------------------------------------------------------------+
| npu-smi 21.0.3.1                     Version: 21.0.3.1                       |
+-------------------+-----------------+----------------------------------------+
| NPU     Name      | Health          | Power(W)          Temp(C)              |
| Chip    Device    | Bus-Id          | AICore(%)         Memory-Usage(MB)     |
+===================+=================+========================================+
| 1       910A      | OK              | 66.1              45                   |
| 0       7         | 0000:81:00.0    | 0                 628  / 15177         |
+===================+=================+========================================+"""


@pytest.mark.parametrize("card", ["3", "GPU-5c19d5b0-02f5-4f4c-a2c5-1f1c2c6a8a1e"])
@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ("71.63, 1234", (71.63, 1234 * 2**20)),
        ("[N/A], 1234", (None, 1234 * 2**20)),
        ("[Not Supported], [Not Supported]", (None, None)),
        ("34.10, [N/A]", (34.1, None)),
        ("ERR!, [Unknown Error]", (None, None)),
        ("nan, -1", (None, None)),
        ("71.63, 1234\n70.10, 5", (None, None)),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", (None, None)),
        ("", (None, None)),
    ],
)
def test_what_nvidia_smi_tells_of_a_card(nvidia_smi, card, answer, usage):
    nvidia_smi(answer)
    assert smi.nvidia_usage(card) == usage
    assert smi.nvidia_usage("0") == (None, None)


@pytest.mark.parametrize(
    ("table", "usages"),
    [
        (TWO_CHIPS, {4: (176.3, 59356 * 2**20), 5: (None, 3208 * 2**20), 6: (None, None), 2: (None, None)}),
        (OLDER, {7: (66.1, None), 1: (None, None)}),
        ("dcmi module initialize failed. ret is -8005", {0: (None, None)}),
    ],
)
def test_what_npu_smi_tells_of_a_chip(npu_smi, table, usages):
    npu_smi(table)
    assert {number: smi.ascend_usage(number) for number in usages} == usages


@pytest.mark.parametrize(
    ("table", "power_at"),
    [
        (TWO_CHIPS, {4: 4, 5: 4, 6: 6}),
        (OLDER, {7: 7}),
        ("dcmi module initialize failed. ret is -8005", {}),
    ],
)
def test_a_cards_power_stands_at_one_of_its_chips(npu_smi, table, power_at):
    npu_smi(table)
    assert smi.ascend_power_at() == power_at


class OfSeveral(type(devices.ALONE)):
    """A worker beside others, whose chips on this host it knows, or not."""

    def __init__(self, count, neighbours):
        self.count, self.neighbours = count, neighbours


@pytest.mark.parametrize(
    ("workers", "measuring"),
    [
        # By the workers on the chips 4 and 5 of one card: who measures energy, and how often it is counted.
        (OfSeveral(2, (4, 5)), {4: True, 5: False}),
        (OfSeveral(2, (5, 4)), {4: False, 5: True}),
        (OfSeveral(4, (5, 6)), {5: True}),  # chip 4 is another run's
        (devices.ALONE, {4: True, 5: True}),  # each by itself
    ],
)
def test_a_card_of_two_chips_is_measured_once(npu_smi, workers, measuring):
    npu_smi(TWO_CHIPS)
    memory = {4: 59356 * 2**20, 5: 3208 * 2**20}
    for number, measures in measuring.items():
        gauge = npu._gauge(number, workers)
        first, second = gauge.read(), gauge.read()
        assert first.used_bytes == second.used_bytes == memory[number]
        assert (second.joules > 0) is measures and second.joules == pytest.approx(176.3 * second.seconds)
        assert gauge.source == ("the card by npu-smi" if measures else None)


def test_two_workers_on_one_card_have_all_its_energy(npu_smi):
    npu_smi(TWO_CHIPS)
    both = [meter.Meter(npu._gauge(number, OfSeveral(2, (4, 5)))) for number in (4, 5)]
    with both[0], both[1]:
        time.sleep(0.5)
    drawn = both[0].drawn().beside(both[1].drawn())
    told = meter.energy(drawn, both[0].source)
    assert both[1].drawn().wanted == 0 and drawn.wanted == both[0].drawn().wanted
    assert told["joules"] == pytest.approx(176.3 * drawn.measured, abs=0.001) and drawn.measured > 0.2
    assert told["covered"] == pytest.approx(min(1.0, drawn.measured / drawn.wanted), abs=1e-3)
    assert drawn.device_bytes == 59356 * 2**20


def test_where_the_others_are_not_known_a_card_is_never_counted_twice(npu_smi):
    npu_smi(TWO_CHIPS)
    readings = []
    for number in (4, 5):
        gauge = npu._gauge(number, OfSeveral(2, ()))
        assert gauge.source == "the card by npu-smi"  # it is wanted from both, so that what is missing shows
        gauge.read()
        readings.append(gauge.read())
    assert readings[0].joules > 0 and readings[1] == (0, 0, 3208 * 2**20)


def test_chips_go_by_the_drivers_number(npu_host, npu_smi):
    assert smi.ascend_usage(4) == (68.3, 2**20) and smi.ascend_usage(1) == (None, None)
    npu_smi(TWO_CHIPS)
    assert [npu.number for npu in smi.ascend_npus()] == [4, 5, 6]


def test_tools_that_are_absent_or_hang_tell_nothing(program, monkeypatch, tmp_path):
    monkeypatch.setattr(smi, "PATIENCE_BESIDE_A_RUN", 0.5)
    told = tmp_path / "told"
    # What it has started holds its output open.
    folder = program("nvidia-smi", f"#!/bin/sh\nsleep 600 & echo $! > {told}\nwait\n")
    before = time.monotonic()
    assert smi.nvidia_usage("0") == (None, None)
    assert time.monotonic() - before < 30
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{told.read_text().strip()}/exe"):
        assert time.monotonic() < deadline, "what the tool started is still there"
        time.sleep(0.01)
    monkeypatch.setenv("PATH", str(folder / "nothing"))
    assert smi.nvidia_usage("0") == smi.ascend_usage(0) == (None, None)
