"""What train_8npu.sh looks at before it starts anything: whether params.yaml lets several NPUs train together.

It ends with a sentence where they would not: DVC would not know the stage, or train on a single chip.
"""

import os
import sys

from covpool.config import ParamsError, load_params
from covpool.distributed import hccl_environment

#: The run that the script is for, and its NPUs.
RUN, NPUS = "npu", 8


def problem(params, environment):
    """Why the run would not train on several NPUs, in a sentence; None where it would."""
    options = params.device_options.get(RUN)
    if options is None or options.kind != "npu":
        return f"device_options has no entry {RUN!r} of kind npu: write one into params.yaml"
    wanted = []
    if RUN not in params.devices:
        wanted.append("devices is [{}]: set `devices: [{}]`".format(", ".join(params.devices), RUN))
    if options.workers == 1:
        size, _ = hccl_environment.size(environment)
        wanted.append(f"device_options.{RUN}.workers is 1, which is one NPU: set it to {size if size > 1 else NPUS}")
    return "; ".join(wanted) + " in params.yaml" if wanted else None


def main():
    try:
        found = problem(load_params(), os.environ)
    except (ParamsError, hccl_environment.ClusterError) as error:
        found = str(error)
    if found:
        sys.exit(f"train_8npu.sh: {found}.")


if __name__ == "__main__":
    main()
