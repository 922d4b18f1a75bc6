"""Measures the energy and memory that a device uses during training.

    with Meter(device.gauge) as meter:
        ...                      # training
    meter.drawn()

A thread queries the tool of the device every few seconds. The training does not depend on the answer. If the tool is
missing, hangs or reports nothing, the measurement has a gap. The record shows the measured share of the time.

    kind   energy                                            memory
    gpu    nvidia-smi, the card's power                      nvidia-smi, in use on the card by all processes
    npu    npu-smi, the card's power                         npu-smi, HBM in use on the chip by all processes
    cpu    Linux's RAPL counters, whole processor packages   not measured
"""

import collections
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Union

if TYPE_CHECKING:
    from covpool.devices.smi import Usage

#: The time between two readings, in seconds.
INTERVAL = 5.0
#: The meter stops after this number of consecutive readings without an answer.
MOST_FAILURES = 3
#: The longest time that the end of the training waits for the last reading, in seconds.
PATIENCE = 15.0

#: Where Linux shows the counters of RAPL (Running Average Power Limit), also for AMD's processors.
POWERCAP = Path("/sys/class/powercap")

#: One reading of a gauge. joules: the energy since the last reading. seconds: the time in which it was measured.
#: used_bytes: the memory in use now, or None if it is unknown.
Reading = collections.namedtuple("Reading", ["joules", "seconds", "used_bytes"])


class Drawn(collections.namedtuple("Drawn", ["seconds", "joules", "measured", "wanted", "device_bytes"])):
    """The energy and memory that a training has used so far.

    Attributes:
        seconds: The duration of the training, in seconds.
        joules: The measured energy, in joules.
        measured: The time in which energy was measured, in seconds, summed over all meters.
        wanted: The time in which energy should have been measured, in seconds, summed over all meters.
        device_bytes: The peak memory in use on one device, in bytes, or 0 if it is unknown.
    """

    __slots__ = ()

    def then(self, later: "Drawn") -> "Drawn":
        """Add a later part of the same training.

        Args:
            later: The energy and memory of the later part.

        Returns:
            The total of both parts.
        """
        return Drawn(self.seconds + later.seconds, *self._summed(later))

    def beside(self, other: "Drawn") -> "Drawn":
        """Add another worker, which trained at the same time.

        Args:
            other: The energy and memory of the other worker.

        Returns:
            The total of both workers.
        """
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
    """Energy from the power that a tool reports, by the trapezoidal rule.

    With power P[i] at time t[i], the energy is the sum of (P[i-1] + P[i]) / 2 * (t[i] - t[i-1]). If a reading has no
    answer, the intervals before and after it are not counted.
    """

    def __init__(self, source: str, ask: "Callable[[], Usage]", clock: Callable[[], float] = time.perf_counter) -> None:
        """Create the gauge.

        Args:
            source: A text that describes the source of the energy.
            ask: A function that returns the current `smi.Usage`.
            clock: A function that returns the time in seconds.
        """
        self.source = source
        self._ask = ask
        self._clock = clock
        self._last = None

    def read(self) -> Optional[Reading]:
        """Read the power and memory.

        Returns:
            The Reading, or None if the tool reports neither power nor memory.
        """
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
    """Memory in use on a chip, without energy. Another worker on the same card measures the energy."""

    source = None

    def __init__(self, ask: "Callable[[], Usage]") -> None:
        """Create the gauge.

        Args:
            ask: A function that returns the current `smi.Usage`.
        """
        self._ask = ask

    def read(self) -> Optional[Reading]:
        """Read the memory.

        Returns:
            The Reading, without energy, or None if the tool does not report the memory.
        """
        used_bytes = self._ask().used_bytes
        return None if used_bytes is None else Reading(0.0, 0.0, used_bytes)


class RaplGauge:
    """Energy of all processor packages of this host, from counters of Linux. On many hosts only root can read them."""

    source = "the processor packages by RAPL"

    def __init__(self, folder: Optional[Path] = None, clock: Callable[[], float] = time.perf_counter) -> None:
        """Create the gauge.

        Args:
            folder: The folder of the counters. None means `POWERCAP`.
            clock: A function that returns the time in seconds.
        """
        self._folder = folder or POWERCAP
        self._clock = clock
        self._last = None

    def read(self) -> Optional[Reading]:
        """Read the counters.

        Returns:
            The Reading, without memory, or None if there is no counter or one can't be read.
        """
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
        """List the folders of the packages, without their parts (`intel-rapl:0:0`) and the whole machine (`psys`)."""
        zones = (path for path in self._folder.glob("intel-rapl:*") if re.match(r"intel-rapl:\d+\Z", path.name))
        return sorted(zone for zone in zones if (zone / "name").read_text().startswith("package"))


def _since(zone, before, now):
    """Return the microjoules between two values of a counter.

    The counter restarts from 0 when it is full. At full load this takes at least some minutes, so there is at most one
    restart between two readings.
    """
    return now - before if now >= before else now - before + _microjoules(zone / "max_energy_range_uj")


def _microjoules(path):
    return int(path.read_text())


class Meter:
    """A context manager that reads a gauge at regular intervals and sums the readings."""

    def __init__(self, gauge: Optional[Union[PowerGauge, MemoryGauge, RaplGauge]]) -> None:
        """Create the meter. It starts when the context is entered.

        Args:
            gauge: The gauge to read. If another worker measures the energy for this one, it is a MemoryGauge or None.
        """
        self._gauge = gauge
        self._sum = NOTHING
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)
        self._ended = None

    @property
    def source(self) -> Optional[str]:
        """A text that describes the source of the energy, or None if this meter does not measure energy."""
        return self._gauge and self._gauge.source

    def __enter__(self) -> "Meter":
        """Start the meter.

        Returns:
            The meter itself.
        """
        self._started = time.perf_counter()
        if self._gauge is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Stop the meter."""
        self.stop()

    def stop(self) -> None:
        """Take the last reading and stop the meter. Further calls do nothing."""
        if self._ended is None:
            self._ended = time.perf_counter()
            self._stopping.set()
            if self._gauge is not None:
                self._thread.join(PATIENCE)

    def drawn(self) -> Drawn:
        """Return the energy and memory since the start.

        Returns:
            The values until now, or until the meter was stopped. The energy covers the time until the last reading.
        """
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
        # An error of the gauge must not end the training or print a message during it.
        except Exception:
            reading = None
        if reading is not None:
            now = Drawn(0.0, reading.joules, reading.seconds, 0.0, reading.used_bytes or 0)
            with self._lock:
                self._sum = self._sum.then(now)
        return reading


def energy(drawn: Drawn, source: Optional[str]) -> Dict[str, Any]:
    """Create the entry `energy` of a run's record.

    Args:
        drawn: The energy and memory of the training, for all workers.
        source: A text that describes the source of the energy.

    Returns:
        A dictionary: `joules`, `seconds`, `covered` (the share of the time in which energy was measured, 0 to 1) and
        `source`. Without a measurement, `joules` and `source` are None.
    """
    told = drawn.measured > 0
    return {
        "joules": round(drawn.joules, 3) if told else None,
        "seconds": round(drawn.seconds, 3),
        "covered": round(min(1.0, drawn.measured / drawn.wanted), 4) if told else 0.0,
        "source": source if told else None,
    }
