"""Stage check: refuses wrong parameters before anything is run.

Its output is constant, so that a valid change re-runs just the stages that read the changed key.
"""

from covpool.artifacts import atomic_file
from covpool.stage import stage

if __name__ == "__main__":
    with stage("check"), atomic_file("data/params-checked") as stream:
        stream.write("params.yaml is valid\n")
