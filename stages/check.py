"""Stage check: refuses wrong parameters before anything is run.

    stages/py stages/check.py            by hand: the parameters, and whether the pictures that they name are there
    stages/py stages/check.py --stage    as DVC runs it: params.yaml alone; a clone that pulls results has no pictures

The stage's output is constant, so that a valid change re-runs just the stages that read the changed key.
"""

import argparse
import sys

from covpool.datasets.local_source import source_problem
from covpool.pipeline.artifacts import atomic_file
from covpool.pipeline.stage_frame import stage


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stage", action="store_true", help="read params.yaml alone and write data/params-checked")
    as_stage = parser.parse_args().stage
    with stage("check") as params:
        if as_stage:
            with atomic_file("data/params-checked") as stream:
                stream.write("params.yaml is valid\n")
            return
        problem = source_problem(params.dataset)
        if problem:
            sys.exit("check: " + problem)
        print("check: params.yaml is valid")


if __name__ == "__main__":
    main()
