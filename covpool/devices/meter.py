"""What a run draws from its device while it trains: energy, and memory in use.

    with Meter(device.gauge) as meter:
        ...                      # training
    meter.drawn()

A thread asks the device's own tool every few seconds. Nothing depends on the answer: a tool that is absent, hangs or
does not know leaves a gap, and how much of the time was measured is told beside the energy.

    kind   energy                                            memory
    gpu    nvidia-smi, the card's power                      nvidia-smi, in use on the card by all processes
    npu    npu-smi, the card's power                         npu-smi, HBM in use on the chip by all processes
    cpu    Linux's RAPL counters, whole processor packages   not told
"""

import collections
import re
import threading
import time
from pathlib import Path

#: Seconds from one reading to the next.
INTERVAL = 5.0
#: So many readings in a row without an answer, and no more is asked.
MOST_FAILURES = 3
#: Seconds that the end of a training waits for the last reading at most.
PATIENCE = 15.0

#: Where Linux shows the counters of RAPL (Running Average Power Limit); AMD's processors have them there, too.
POWERCAP = Path("/sys/class/powercap")

#: What a gauge tells: energy since its last reading, the seconds in which it was drawn, and the memory in use now,
#: None where that is not told.
Reading = collections.namedtuple("Reading", ["joules", "seconds", "used_bytes"])


class Drawn(collections.namedtuple("Drawn", ["seconds", "joules", "measured", "wanted", "device_bytes"])):
    """What a training has drawn so far.

    seconds: that it took; joules: that were measured; measured: seconds in which they were, wanted: in which they were
    to be, both of all meters together; device_bytes: the most memory in use on one device, 0 where nobody told.
    """

    __slots__ = ()

    def then(self, later):
        """With what was drawn after it."""
        return Drawn(self.seconds + later.seconds, *self._summed(later))

    def beside(self, other):
        """With what another worker has drawn at the same time."""
        return Drawn(max(self.seconds, other.seconds), *self._summed(other))

    def _summed(self, other):
        return (
            self.joules + other.joules,
            self.measured + other.measured,
            self.wanted + other.wanted,
            max(self.device_bytes, other.device_bytes),
        )


NOTHING = Drawn(0.0, 0.0, 0.0, 0.0, 0)


class PowerGauge:
    """Energy from a power that a tool tells: the trapezoids between its readings.

    source: of the energy, in words; ask: returns a `smi.Usage`; clock: seconds. What lies beside a reading without an
    answer is not counted.
    """

    def __init__(self, source, ask, clock=time.perf_counter):
        self.source = source
        self._ask = ask
        self._clock = clock
        self._last = None

    def read(self):
        """The Reading; None where the tool tells nothing."""
        now = self._clock()
        watts, used_bytes = self._ask()
        last, self._last = self._last, None if watts is None else (now, watts)
        if watts is None:
            return None if used_bytes is None else Reading(0.0, 0.0, used_bytes)
        if last is None:
            return Reading(0.0, 0.0, used_bytes)
        before, watts_before = last
        return Reading((watts_before + watts) / 2 * (now - before), now - before, used_bytes)


class MemoryGauge:
    """Memory in use, of a chip whose energy another worker measures: they are on one card. ask: as of PowerGauge."""

    source = None

    def __init__(self, ask):
        self._ask = ask

    def read(self):
        """The Reading, without energy; None where the tool tells nothing."""
        used_bytes = self._ask().used_bytes
        return None if used_bytes is None else Reading(0.0, 0.0, used_bytes)


class RaplGauge:
    """Energy of all processor packages of this host, by the counters of Linux, which often only root may read."""

    source = "the processor packages by RAPL"

    def __init__(self, folder=None, clock=time.perf_counter):
        self._folder = folder or POWERCAP
        self._clock = clock
        self._last = None

    def read(self):
        """The Reading; None where a counter can't be read."""
        now = self._clock()
        try:
            counters = {zone: _microjoules(zone / "energy_uj") for zone in self._packages()}
            if self._last is None or not counters:
                drawn, seconds = 0, 0.0
            else:
                before, counters_before = self._last
                drawn = sum(_since(zone, counters_before[zone], count) for zone, count in counters.items())
                seconds = now - before
        except (OSError, ValueError, KeyError):
            counters = None
        self._last = (now, counters) if counters else None
        return Reading(drawn / 1e6, seconds, None) if counters else None

    def _packages(self):
        """Not the cores and memory inside of them, `intel-rapl:0:0`, and not the whole machine, `psys`."""
        zones = (path for path in self._folder.glob("intel-rapl:*") if re.match(r"intel-rapl:\d+\Z", path.name))
        return sorted(zone for zone in zones if (zone / "name").read_text().startswith("package"))


def _since(zone, before, now):
    """The counter starts again from 0 when it is full, after some minutes at full load at the earliest."""
    return now - before if now >= before else now - before + _microjoules(zone / "max_energy_range_uj")


def _microjoules(path):
    return int(path.read_text())


class Meter:
    """Reads a gauge now and then, from its start to its end as a context, and sums up.

    gauge: a PowerGauge or RaplGauge; a MemoryGauge, or None, where another worker measures energy for this one.
    """

    def __init__(self, gauge):
        self._gauge = gauge
        self._sum = NOTHING
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)
        self._ended = None

    @property
    def source(self):
        """Of the energy, in words; None where it is not measured here."""
        return self._gauge and self._gauge.source

    def __enter__(self):
        self._started = time.perf_counter()
        if self._gauge is not None:
            self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Take the last reading; what comes after it is not counted."""
        if self._ended is None:
            self._ended = time.perf_counter()
            self._stopping.set()
            if self._gauge is not None:
                self._thread.join(PATIENCE)

    def drawn(self):
        """What was `Drawn` from the start to now, or to the end; its energy reaches to the last reading."""
        seconds = (self._ended or time.perf_counter()) - self._started
        with self._lock:
            return self._sum._replace(seconds=seconds, wanted=0.0 if self.source is None else seconds)

    def _measure(self):
        failures = 0
        while failures < MOST_FAILURES:
            last = self._stopping.is_set()
            reading = self._read()
            failures = failures + 1 if reading is None else 0
            if last:
                return
            self._stopping.wait(INTERVAL)

    def _read(self):
        try:
            reading = self._gauge.read()
        # Whatever goes wrong here is no reason to end a training, nor to say anything in the middle of it.
        except Exception:
            reading = None
        if reading is not None:
            now = Drawn(0.0, reading.joules, reading.seconds, 0.0, reading.used_bytes or 0)
            with self._lock:
                self._sum = self._sum.then(now)
        return reading


def energy(drawn, source):
    """The entry `energy` of a run's record; `covered` is the share of the time in which energy was measured."""
    told = drawn.measured > 0
    return {
        "joules": round(drawn.joules, 3) if told else None,
        "seconds": round(drawn.seconds, 3),
        "covered": round(min(1.0, drawn.measured / drawn.wanted), 4) if told else 0.0,
        "source": source if told else None,
    }
