"""Reads YAML as DVC does. Needs PyYAML only: an Ascend host's Python has little else."""

import re
from pathlib import Path
from typing import Any, Dict, Union

import yaml

from covpool.config.errors import ParamsError


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars, which is how DVC reads the file: 1e-4 is a number, `no` and `off` are text.

    A key that stands twice in one mapping is refused, as by DVC: PyYAML would take the last one.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Dict:
        lines = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
                raise ParamsError(
                    f"{node.start_mark.name}, line {line}: the key {key.value!r} is already in line "
                    f"{lines[key.value]}. Remove one of the two."
                )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"
for _tag, _spelling, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9][0-9_]*\Z", "-+0123456789"),
    ("float", _FLOAT + r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z", "-+.0123456789"),
):
    _Loader.add_implicit_resolver("tag:yaml.org,2002:" + _tag, re.compile(_spelling), list(_first))
# YAML 1.1 would read 010 as eight.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value.replace("_", "")))


def read_yaml(path: Union[str, Path]) -> Any:
    """Read a YAML file.

    Raises:
        ParamsError: the file is missing, is not YAML, or has a key twice.
    """
    try:
        with open(str(path), encoding="utf-8") as stream:
            return yaml.load(stream, Loader=_Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing: run this in the project's root.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
