"""params.yaml as typed, validated sections.

    params = load_params()
    params.train.batch_size

Both interpreters read the parameters, so the room needs PyYAML only.
"""

from covpool.config.errors import ParamsError
from covpool.config.plain import as_plain
from covpool.config.reading import PARAMS_FILE, build_section, load_params, parse_params, run_options
from covpool.config.schedules import NAMED_SCHEDULES, read_schedule_file
from covpool.config.sections import Dataset, Network, NpuOptions, Params, Spd, Validate
from covpool.config.yaml_file import read_yaml

__all__ = [
    "Dataset",
    "NAMED_SCHEDULES",
    "Network",
    "NpuOptions",
    "PARAMS_FILE",
    "Params",
    "ParamsError",
    "Spd",
    "Validate",
    "as_plain",
    "build_section",
    "load_params",
    "parse_params",
    "read_schedule_file",
    "read_yaml",
    "run_options",
]
