"""Sources of energy for the tests: a stand-in for RAPL's counters, and the integral to compare with."""

import numpy as np

#: The integral by the trapezoidal rule; NumPy 2 has it under the longer name only.
trapezoid = getattr(np, "trapezoid", None) or np.trapz

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
