"""Stage check: refuses wrong parameters before anything is run.

    stages/py stages/check.py            by hand: the parameters, the pictures that they name, and this machine
    stages/py stages/check.py --stage    as DVC runs it: params.yaml alone; a clone that pulls results has no pictures

The stage's output is constant, so that a valid change re-runs just the stages that read the changed key.
"""

import argparse
import os
import sys
from pathlib import Path

from covpool.config import Params
from covpool.datasets.local_source import source_problem
from covpool.pipeline import machine
from covpool.pipeline.artifacts import atomic_file
from covpool.pipeline.stage_frame import stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stage", action="store_true", help="read params.yaml alone and write data/params-checked")
    as_stage = parser.parse_args().stage
    with stage("check") as params:
        if as_stage:
            link_source(Path(params.dataset.source))
            with atomic_file("data/params-checked") as stream:
                stream.write("params.yaml is valid\n")
        else:
            by_hand(params)


def by_hand(params: Params) -> None:
    """Look at the pictures and the machine; print what is wrong, or that nothing is."""
    problem = source_problem(params.dataset)
    problems = [problem] if problem else list(machine.missing_devices(params))
    if problems:
        sys.exit("\n".join(f"check: {each}" for each in problems))
    print("check: params.yaml is valid")
    for note in [*machine.other_builds(params), machine.place_problem()]:
        if note:
            print(f"check: note: {note}")


def link_source(source: Path) -> None:
    """Let the copy of the project, in which DVC runs a queued experiment, find a relative source of the project's."""
    there = Path(os.environ.get("DVC_ROOT", ".")).resolve() / source
    if not source.is_absolute() and not os.path.lexists(source) and there.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        source.symlink_to(there)


if __name__ == "__main__":
    main()
