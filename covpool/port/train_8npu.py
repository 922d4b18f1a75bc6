"""Checks for train_8npu.sh, before it starts anything, that params.yaml lets several NPUs train together.

It exits with a message if they would not. Otherwise DVC would report an unknown stage, or train on a single chip.
"""

import os
import sys
from typing import TYPE_CHECKING, Mapping, Optional

from covpool.config import ParamsError, load_params
from covpool.distributed import hccl_environment

if TYPE_CHECKING:
    from covpool.config import Params

#: The name of the run that the script starts, and its number of NPUs.
RUN, NPUS = "npu", 8


def problem(params: "Params", environment: Mapping[str, str]) -> Optional[str]:
    """Return why the run would not train on several NPUs.

    Args:
        params: The parameters of the pipeline.
        environment: The environment variables.

    Returns:
        The reason and its remedy in one sentence without a final period; None if the run would train on several NPUs.

    Raises:
        ClusterError: A variable that sets the number of workers is not a whole number of 1 or more.
    """
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


def main() -> None:
    """Exit with code 1 and a message if the run would not train on several NPUs."""
    try:
        found = problem(load_params(), os.environ)
    except (ParamsError, hccl_environment.ClusterError) as error:
        found = str(error)
    if found:
        sys.exit(f"train_8npu.sh: {found}.")


if __name__ == "__main__":
    main()
