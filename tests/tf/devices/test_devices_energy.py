"""Energy from readings: the integral of power, RAPL's counters, sums over parts and workers."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covpool.devices import meter, smi
from tests.tf.devices.energy_sources import RANGE, FakeRapl, trapezoid


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
