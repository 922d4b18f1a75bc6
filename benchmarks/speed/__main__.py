"""Measures, writes benchmarks/results.json, and from it docs/speed.md and its figures.

stages/py -m benchmarks.speed [--quick] [--only steps scoring ...] [--page]
"""

import argparse
import datetime
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed import machine, measurements, page
from benchmarks.speed.environments import PEERS
from benchmarks.speed.sides import ROOT, Sides, usable_cores
from benchmarks.speed.workers import WorkerFailed
from covpool.pipeline import artifacts

RESULTS = ROOT / "benchmarks" / "results.json"
#: What all the sides of the training step need side by side.
MEMORY_WANTED = 18 * 2**30
#: What depends on how long one is willing to wait.
FULL = {
    "steps": 7,
    "one_core_steps": 5,
    "waits": 6,
    "scoring": 7,
    "passes": (1000, 10_000, 100_000),
    "published": 5,
    "start_ups": 5,
    "faces": (28, (176, 480), 5),
    "matrices": 9,
}
QUICK = {
    "steps": 2,
    "one_core_steps": 1,
    "waits": 2,
    "scoring": 2,
    "passes": (1000, 3000),
    "published": 2,
    "start_ups": 1,
    "faces": (7, (176,), 1),
    "matrices": 2,
}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats: does everything work? Not for figures")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="measure these parts anew, keep the others' results")
    parser.add_argument("--page", action="store_true", help="only write the page anew from the results")
    options = parser.parse_args()
    try:
        if not options.page:
            measure(QUICK if options.quick else FULL, options.quick, options.only)
        page.write(read(), ROOT)
    except (WorkerFailed, measurements.Disagreement, Unusable) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; what was not finished is not written")


class Unusable(RuntimeError):
    """There are no results, or none that what was asked for could go with."""


def read(to_come=()):
    """The content of RESULTS, with all its parts but those that are measured anyway."""
    try:
        results = json.loads(RESULTS.read_text())
    except FileNotFoundError:
        raise Unusable(f"{RESULTS.relative_to(ROOT)} is not there: `make bench` measures and writes it") from None
    except ValueError as error:
        raise Unusable(f"{RESULTS.relative_to(ROOT)} is damaged ({error}): `make bench` writes it anew") from None
    missing = [name for name in MEASURE if name not in results and name not in to_come]
    if missing:
        raise Unusable(f"{RESULTS.relative_to(ROOT)} lacks {', '.join(missing)}: `make bench` measures everything")
    return results


def measure(amount, quick, only):
    """Measure and write RESULTS; `only`: the names of parts, the rest is kept."""
    if not (ROOT / PEERS).exists():
        raise Unusable(f"{PEERS} is not there: `make bench` sets it up")
    available = machine.available_memory()
    if available < MEMORY_WANTED:
        sys.exit(
            f"bench: {available / 2**30:.1f} GiB of memory are free, and the sides need "
            f"{MEMORY_WANTED / 2**30:.0f} GiB together: close what else runs"
        )
    here = machine.describe()
    sitting = {"begun": _now(), "load": here.pop("load")}
    results = read(only) if only else {"format": 1, "quick": quick, "machine": here, "sittings": []}
    if only and (results["quick"], results["machine"]["cpu"], results["machine"]["cores"]) != (
        quick,
        here["cpu"],
        here["cores"],
    ):
        raise Unusable("the results that are there are of another machine or another amount: measure everything")
    parts = ["agreement", *(each for each in PARTS if not only or each in only)]
    scratch = ROOT / ".covpool"
    scratch.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=scratch))
    try:
        sides = Sides(folder)
        # The agreement comes first whatever is asked for: it writes the weights that the other parts begin with.
        for name in parts:
            before = time.perf_counter()
            results[name] = MEASURE[name](sides, folder, amount)
            say(f"-- {name}: {time.perf_counter() - before:.0f} s")
    finally:
        shutil.rmtree(folder)
    sitting.update(finished=_now(), load_at_end=machine.load(), parts=parts)
    earlier = [dict(each, parts=[name for name in each["parts"] if name not in parts]) for each in results["sittings"]]
    results["sittings"] = [each for each in earlier if each["parts"]] + [sitting]
    artifacts.write_json(RESULTS, results)


def _steps(sides, folder, amount):
    cores = len(usable_cores())
    found = {str(cores): measurements.training_steps(sides, folder, cores, amount["steps"], say)}
    if cores > 1:
        found["1"] = measurements.training_steps(sides, folder, 1, amount["one_core_steps"], say)
    return found


MEASURE = {
    "agreement": lambda sides, folder, amount: measurements.agreement(sides, folder, say),
    "steps": _steps,
    "like_for_like": lambda sides, folder, amount: measurements.like_for_like(
        sides, folder, len(usable_cores()), amount["steps"], say
    ),
    "waits": lambda sides, folder, amount: measurements.data_waits(sides, len(usable_cores()), amount["waits"], say),
    "scoring": lambda sides, folder, amount: measurements.scoring(sides, folder, amount["scoring"], say),
    "scoring_memory": lambda sides, folder, amount: measurements.scoring_memory(sides, folder, say),
    "matrices": lambda sides, folder, amount: measurements.matrices(sides, folder, amount["matrices"], say),
    "faces": lambda sides, folder, amount: measurements.faces(sides, folder, *amount["faces"], say),
    "start_ups": lambda sides, folder, amount: measurements.start_ups(sides, folder, amount["start_ups"], say),
    "passes": lambda sides, folder, amount: measurements.passes(
        sides, folder, amount["passes"], amount["published"], say
    ),
}
PARTS = tuple(name for name in MEASURE if name != "agreement")


def say(text):
    print(f"bench: {text}", flush=True)


def _now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


if __name__ == "__main__":
    main()
