"""Reads YAML as DVC does. Needs PyYAML only: an Ascend host's Python has little else."""

import re

import yaml

from covpool.config.errors import ParamsError


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars, which is how DVC reads the file: 1e-4 is a number, `no` and `off` are text."""


_Loader.yaml_implicit_resolvers = {}
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"
for _tag, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9][0-9_]*\Z", "-+0123456789"),
    ("float", _FLOAT + r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z", "-+.0123456789"),
):
    _Loader.add_implicit_resolver("tag:yaml.org,2002:" + _tag, re.compile(_pattern), list(_first))
# YAML 1.1 would read 010 as eight.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value.replace("_", "")))


def read_yaml(path):
    """The content of a YAML file; ParamsError where there is none."""
    try:
        with open(str(path), encoding="utf-8") as stream:
            return yaml.load(stream, Loader=_Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing: run from the project's root.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} is no YAML: {error}") from None
