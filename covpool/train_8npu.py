"""What train_8npu.sh looks at before it starts anything: whether params.yaml lets several NPUs train together.

It ends with a sentence where they would not: DVC would not know the stage, or train on a single chip.
"""

import os
import sys

from covpool import cluster
from covpool.params import ParamsError, load_params

#: The run that the script is for, and its NPUs.
RUN, NPUS = "npu", 8


def problem(params, environment):
    """Why the run would not train on several NPUs, in a sentence; None where it would."""
    options = params.device_options.get(RUN)
    if options is None or options.kind != "npu":
        return "device_options has no entry {!r} of kind npu: write one into params.yaml".format(RUN)
    wanted = []
    if RUN not in params.devices:
        wanted.append("devices is [{}]: set `devices: [{}]`".format(", ".join(params.devices), RUN))
    if options.workers == 1:
        size, _ = cluster.size(environment)
        wanted.append("device_options.{}.workers is 1, which is one NPU: set it to {}".format(
            RUN, size if size > 1 else NPUS))  # fmt: skip
    return "; ".join(wanted) + " in params.yaml" if wanted else None


def main():
    try:
        found = problem(load_params(), os.environ)
    except (ParamsError, cluster.ClusterError) as error:
        found = str(error)
    if found:
        sys.exit("train_8npu.sh: {}.".format(found))


if __name__ == "__main__":
    main()
