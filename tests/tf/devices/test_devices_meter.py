"""Energy and memory in use: the tools' real command lines and output, RAPL's counters, and what reaches the record."""

import os
import stat
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covpool import devices
from covpool.devices import gpu, meter, npu, smi
from covpool.pipeline import artifacts
from covpool.training import record
from covpool.training.graph import TrainingGraph
from covpool.training.trainer import Interrupted
from tests.tf.devices.npu_standin import STANDIN
from tests.tf.training.training_project import Project

#: The integral by the trapezoidal rule; NumPy 2 has it under the longer name only.
trapezoid = getattr(np, "trapezoid", None) or np.trapz

#: nvidia-smi as it answers `--query-gpu=power.draw,memory.used --format=csv,noheader,nounits`: a program that knows two
#: cards and nothing else. What it prints for the first is in a file beside it; each call leaves a line in another.
NVIDIA_SMI = """#!{python}
import pathlib, sys, time
here = pathlib.Path(__file__).parent
sys.path[:] = []
wanted = ["--query-gpu=power.draw,memory.used", "--format=csv,noheader,nounits"]
if sys.argv[1:3] != wanted or len(sys.argv) != 4 or not sys.argv[3].startswith("--id="):
    sys.exit("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.")
if sys.argv[3] not in ("--id=3", "--id=GPU-5c19d5b0-02f5-4f4c-a2c5-1f1c2c6a8a1e"):
    print("No devices were found")
    sys.exit(6)
with open(str(here / "asked"), "a") as stream:
    stream.write(sys.argv[3] + "\\n")
text = (here / "answer").read_text()
if text == "hang":
    time.sleep(600)
print(text)
sys.exit(9 if text.startswith("NVIDIA-SMI has failed") else 0)
"""

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


@pytest.fixture
def program(tmp_path, monkeypatch):
    """program(name, text): an executable of that name on the PATH; gives its folder."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder) + os.pathsep + os.environ["PATH"])

    def make(name, text):
        path = folder / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return folder

    return make


@pytest.fixture
def nvidia_smi(program):
    """nvidia_smi(text): what it answers for card 3 from now on."""
    folder = program("nvidia-smi", NVIDIA_SMI.format(python=sys.executable))
    return (folder / "answer").write_text


@pytest.fixture
def npu_smi(program):
    def answers(text):
        program("npu-smi", f"#!/bin/sh\n[ \"$*\" = info ] || exit 1\ncat <<'TABLE'\n{text}\nTABLE\n")

    return answers


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


class Played:
    """A tool whose answers, (moment, watts) each, are known before; it is the clock as well."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.gauge = meter.PowerGauge("a play", self.ask, lambda: self.answers[0][0])

    def ask(self):
        return smi.Usage(self.answers.pop(0)[1], None)

    def readings(self):
        return [self.gauge.read() for _ in list(self.answers)]


STEPS = st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 1000)), min_size=1, max_size=40)


def played(steps):
    moments = np.cumsum([step for step, _ in steps])
    return list(zip(moments.tolist(), [watts for _, watts in steps]))


@given(STEPS)
def test_energy_is_the_integral_of_power(steps):
    answers = played(steps)
    readings = Played(answers).readings()
    moments, watts = np.array(answers).T
    assert sum(each.joules for each in readings) == pytest.approx(trapezoid(watts, moments), rel=1e-9, abs=1e-9)
    assert sum(each.seconds for each in readings) == pytest.approx(moments[-1] - moments[0], rel=1e-9, abs=1e-9)


@given(STEPS, st.floats(1, 1000), st.floats(-1, 1))
def test_a_power_that_grows_evenly_needs_no_more_readings_than_two(steps, level, slope):
    """Exact for straight lines, wherever it is read."""
    answers = [(moment, level + 300 + slope * moment / 20) for moment, _ in played(steps)]
    (first, low), (last, high) = answers[0], answers[-1]
    found = sum(each.joules for each in Played(answers).readings())
    assert found == pytest.approx((low + high) / 2 * (last - first), rel=1e-6, abs=1e-6)


@given(STEPS, st.data())
def test_what_lies_beside_an_unanswered_reading_is_not_counted(steps, data):
    answers = played(steps)
    silent = data.draw(st.sets(st.integers(0, len(answers) - 1)))
    heard = [(moment, None if place in silent else watts) for place, (moment, watts) in enumerate(answers)]
    readings = Played(heard).readings()
    assert [place for place, each in enumerate(readings) if each is None] == sorted(silent)
    pairs = [(one, two) for one, two in zip(heard, heard[1:]) if one[1] is not None and two[1] is not None]
    told = [each for each in readings if each]
    assert sum(each.seconds for each in told) == pytest.approx(sum(two[0] - one[0] for one, two in pairs), abs=1e-9)
    assert sum(each.joules for each in told) == pytest.approx(
        sum((two[0] - one[0]) * (one[1] + two[1]) / 2 for one, two in pairs), rel=1e-9, abs=1e-9
    )


RANGE = 262143328850  # max_energy_range_uj of an Intel server


class FakeRapl:
    """A powercap folder of two packages, each with a zone inside, and the whole machine."""

    def __init__(self, folder, start=0):
        self.folder = folder
        self.counters = {"intel-rapl:0": start, "intel-rapl:1": start}
        names = {
            "intel-rapl:0": "package-0",
            "intel-rapl:1": "package-1",
            "intel-rapl:0:0": "dram",
            "intel-rapl:2": "psys",
            "intel-rapl-mmio:0": "package-0",
        }
        for zone, name in names.items():
            (folder / zone).mkdir(parents=True)
            (folder / zone / "name").write_text(name + "\n")
            (folder / zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
            (folder / zone / "energy_uj").write_text(f"{start}\n")

    def draw(self, zone, microjoules):
        self.counters[zone] = (self.counters[zone] + microjoules) % RANGE
        (self.folder / zone / "energy_uj").write_text(f"{self.counters[zone]}\n")


def test_the_packages_counters_are_added_and_wrap(tmp_path):
    rapl = FakeRapl(tmp_path, RANGE - 1_000_000)
    moments = iter([10.0, 12.0, 15.0, 16.0])
    gauge = meter.RaplGauge(tmp_path, lambda: next(moments))
    assert gauge.read() == (0, 0, None)
    rapl.draw("intel-rapl:0", 3_000_000)
    rapl.draw("intel-rapl:1", 500_000)
    assert gauge.read() == (pytest.approx(3.5), 2.0, None)
    rapl.draw("intel-rapl:1", 7_250_000)
    assert gauge.read() == (pytest.approx(7.25), 3.0, None)
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert gauge.read() is None


def test_without_counters_that_may_be_read_there_is_no_energy(tmp_path):
    assert meter.RaplGauge(tmp_path / "nothing").read() is None
    FakeRapl(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir()  # as unreadable to root as to others
    assert meter.RaplGauge(tmp_path).read() is None


DRAWN = st.builds(meter.Drawn, *[st.integers(0, 10**6)] * 5)


@given(DRAWN, DRAWN, DRAWN)
def test_legs_and_workers_are_summed_in_any_grouping(one, two, three):
    assert one.then(two).then(three) == one.then(two.then(three))
    assert one.beside(two).beside(three) == three.beside(one).beside(two)
    assert one.then(meter.NOTHING) == one == one.beside(meter.NOTHING)
    legs, team = one.then(two), one.beside(two)
    assert legs[1:] == team[1:] and legs.seconds == one.seconds + two.seconds
    assert team.seconds == max(one.seconds, two.seconds) and team.joules == one.joules + two.joules


def test_the_record_says_how_much_was_measured():
    told = meter.Drawn(100.0, 5000.0, 150.0, 200.0, 7 * 2**30)
    assert meter.energy(told, "a play") == {"joules": 5000.0, "seconds": 100.0, "covered": 0.75, "source": "a play"}
    silent = told._replace(joules=0.0, measured=0.0)
    assert meter.energy(silent, "a play") == {"joules": None, "seconds": 100.0, "covered": 0.0, "source": None}


def test_a_meter_gives_up_asking_and_ends_whatever_happens(monkeypatch):
    """The third failure in a row is the last, be it silence or an exception."""
    monkeypatch.setattr(meter, "INTERVAL", 0.001)
    asked = []

    class Broken:
        source = "nobody"

        def read(self):
            asked.append(None)
            if len(asked) == 2:
                raise MemoryError
            return meter.Reading(1.0, 0.001, 5) if len(asked) == 3 else None

    with meter.Meter(Broken()) as found:
        deadline = time.monotonic() + 30
        while len(asked) < 6 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
    assert len(asked) == 6
    assert found.drawn()[1:3] == (1.0, 0.001) and found.drawn().device_bytes == 5
    assert found.drawn() == found.drawn() and found.drawn().wanted == found.drawn().seconds >= 0.05


def test_a_tool_that_hangs_does_not_hold_the_end_of_a_training(nvidia_smi, monkeypatch):
    monkeypatch.setattr(smi, "PATIENCE_BESIDE_A_RUN", 1.0)
    nvidia_smi("hang")
    with meter.Meter(meter.PowerGauge("the card", lambda: smi.nvidia_usage("3"))) as found:
        pass
    assert found.drawn().measured == 0 and meter.energy(found.drawn(), found.source)["joules"] is None


@pytest.fixture
def opened_gpu(params_with, monkeypatch):
    """A GPU as it is opened where TensorFlow finds one: what it is asked by is this module's."""

    class Found:
        device_type, physical_device_desc = "GPU", "device: 0, name: Tesla V100-SXM2-16GB, pci bus id: 0000:65:00.0"

    for name in ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(gpu, "_LEFT_VISIBLE", "1,3")
    monkeypatch.setattr(gpu.tf.test, "is_built_with_cuda", lambda: True)
    monkeypatch.setattr(gpu.device_lib, "list_local_devices", lambda config: [Found()])
    return lambda: gpu.open_gpu("gpu", params_with({"device_options.gpu.visible_device": 1}).device_options["gpu"])


def test_a_gpu_is_asked_for_the_very_card_that_cuda_was_given(opened_gpu, nvidia_smi, program):
    nvidia_smi("100.00, 2048")
    opened = opened_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3" and opened.gauge.source == "the card by nvidia-smi"
    assert opened.gauge.read() == (0, 0, 2 * 2**30)
    assert (program("unused", "").joinpath("asked")).read_text() == "--id=3\n"


@pytest.mark.parametrize("given, allowed", [(None, False), ("0", False), ("1", True)])
def test_whether_tf32_is_allowed_is_in_the_record_and_in_what_a_result_depends_on(
    opened_gpu, nvidia_smi, monkeypatch, given, allowed
):
    nvidia_smi("100.00, 2048")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    if given is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", given)
    device = opened_gpu().record
    assert device["tf32"] is allowed and os.environ["NVIDIA_TF32_OVERRIDE"] == (given or "0")
    facts = {name: 0 for name in ("format", "name", "kind", "tensorflow", "parameters", "data")}
    facts.update(code={"hash": ""}, device=device)
    other = dict(facts, device=dict(device, tf32=not allowed))
    assert record.key(facts) != record.key(other)
    assert list(record.fingerprint(facts)) != list(record.fingerprint(other))


def test_workers_that_share_a_processor_count_its_energy_once():
    class Second(type(devices.ALONE)):
        count = local_count = 2
        rank = local_rank = 1

    assert devices.open_cpu(workers=Second()).gauge is None
    assert devices.open_cpu().gauge.source == "the processor packages by RAPL"
    with meter.Meter(None) as found:
        pass
    assert found.drawn().seconds > 0 and found.drawn()[1:] == (0, 0, 0, 0)


SHORT = {"train.epochs": 2, "train.epoch_size": 3}


@pytest.fixture
def rapl(tmp_path, monkeypatch, narrow):
    """The counters of this host, a step of training adding 2 J to one and 1 J to the other; they wrap on the way."""
    made = FakeRapl(tmp_path / "powercap", RANGE - 5_000_000)
    monkeypatch.setattr(meter, "POWERCAP", made.folder)
    original = TrainingGraph.run_step

    def step(*arguments):
        found = original(*arguments)
        made.draw("intel-rapl:0", 2_000_000)
        made.draw("intel-rapl:1", 1_000_000)
        return found

    monkeypatch.setattr(TrainingGraph, "run_step", step)
    return made


def test_a_runs_record_has_the_energy_of_its_steps(tmp_path, rapl):
    project = Project(tmp_path / "project", SHORT)
    record = project.trainer().run()
    assert artifacts.seal_is_intact(project.record())
    energy = record["energy"]
    assert energy["joules"] == pytest.approx(6 * 3.0) and energy["source"] == "the processor packages by RAPL"
    assert energy["covered"] > 0.9 and energy["seconds"] >= sum(row["seconds"] for row in _times(project))
    assert record["memory"]["device_peak_bytes"] is None


def test_a_run_that_goes_on_has_the_energy_of_the_whole_training(tmp_path, rapl, monkeypatch):
    project = Project(tmp_path / "project", SHORT)
    trainer = project.trainer()
    original = trainer._check_signal
    # As a SIGTERM in the second step would leave it.
    monkeypatch.setattr(
        trainer,
        "_check_signal",
        lambda session: (setattr(trainer, "signal", 15 if trainer.step == 2 else None), original(session)),
    )
    with pytest.raises(Interrupted):
        trainer.run()
    rapl.draw("intel-rapl:0", 500_000_000)  # between the two, by something else
    record = project.trainer().run()
    assert record["progress"]["resumed"] and record["energy"]["joules"] == pytest.approx(6 * 3.0)


def test_a_run_whose_host_tells_nothing_ends_as_ever(tmp_path, monkeypatch, narrow):
    monkeypatch.setattr(meter, "POWERCAP", tmp_path / "nothing")
    record = Project(tmp_path / "project", SHORT).trainer().run()
    assert record["energy"]["joules"] is record["energy"]["source"] is None and record["energy"]["covered"] == 0


#: npu-smi whose power grows with each call: it is printed, and left in a file.
GROWING = """#!{python}
import pathlib, sys
assert sys.argv[1:] == ["info"]
log = pathlib.Path(__file__).parent / "told"
lines = log.read_text().splitlines() if log.exists() else []
watts = 60 + 7 * (len(lines) % 5)
with open(str(log), "a") as stream:
    print(watts, file=stream)
table = pathlib.Path({table!r}).read_text().split("<<'TABLE'")[1].replace("TABLE", "")
print(table.replace("71.6", "%.1f" % watts).replace("1    / 32768", "%d / 32768" % (1000 + len(lines)), 1))
"""


def test_an_npus_energy_is_the_integral_of_what_npu_smi_told(tmp_path, npu_bridge, program, monkeypatch, narrow):
    """Against the tool's own log of what it answered, and a clock's of when it was asked."""
    monkeypatch.setattr(meter, "INTERVAL", 0.2)
    folder = program("npu-smi", GROWING.format(python=sys.executable, table=str(STANDIN / "bin" / "npu-smi")))
    changes = {"devices": ["npu"], "train.epochs": 3, "train.epoch_size": 4}
    project = Project(tmp_path / "project", changes, device="npu")
    trainer = project.trainer()
    (folder / "told").unlink()  # what was asked before the training
    moments = []
    trainer.device.gauge._clock = lambda: moments.append(time.perf_counter()) or moments[-1]
    record = trainer.run()
    watts = np.loadtxt(str(folder / "told"), ndmin=1)
    energy = record["energy"]
    assert len(moments) == len(watts) >= 3 and energy["source"] == "the card by npu-smi"
    assert energy["joules"] == pytest.approx(trapezoid(watts, moments), abs=0.001)
    assert energy["covered"] > 0.9 and energy["seconds"] == pytest.approx(moments[-1] - moments[0], rel=0.1)
    assert record["memory"]["device_peak_bytes"] == (1000 + len(moments) - 1) * 2**20


def _times(project):
    rows = artifacts.read_csv(project.folder / "runs" / project.device / "times.csv", artifacts.TIMES_COLUMNS)
    return [{"seconds": float(row["seconds"])} for row in rows]
