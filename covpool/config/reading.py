"""Reads params.yaml into its sections, and reports at once all that is wrong with it.

Each wrong key or value is named with what was given and what is allowed.
"""

import dataclasses
import difflib
from pathlib import Path
from typing import Any, Union

from covpool.config.cross_checks import check_together
from covpool.config.errors import ParamsError
from covpool.config.rules import NAME, Wrong, WrongKeys
from covpool.config.sections import DEVICE_KINDS, CpuOptions, GpuOptions, NpuOptions, Params
from covpool.config.yaml_file import read_yaml

PARAMS_FILE = Path("params.yaml")


def load_params(path: Union[str, Path] = PARAMS_FILE) -> Params:
    """Read and validate the parameters.

    Args:
        path: of a params.yaml.

    Returns:
        The parameters as typed sections.

    Raises:
        ParamsError: names every wrong key and value, and what is allowed there.
    """
    return parse_params(read_yaml(path), str(path))


def parse_params(content: Any, origin: str = "params") -> Params:
    """Validate the content of a params.yaml; see `load_params`. origin: the file's name, for messages."""
    wrong = []
    params = _build(Params, content, "", wrong)
    _raise(origin, wrong)
    check_together(params, wrong)
    _raise(origin, wrong)
    return params


def run_options(params: Params, name: str, origin: str = "--device") -> Union[CpuOptions, GpuOptions, NpuOptions]:
    """Look up the options of a run by its name.

    Args:
        params: of the project.
        name: a key of `device_options`.
        origin: the flag or argument that gave the name, for the message.

    Raises:
        ParamsError: `device_options` has no such name.
    """
    if name not in params.device_options:
        known = ", ".join(params.device_options)
        raise ParamsError(f"{origin}: expected a name from device_options in params.yaml ({known}), got {name!r}")
    return params.device_options[name]


def build_section(name: str, content: Any, origin: str) -> Any:
    """Validate one section, from a record that holds it as plain values.

    Args:
        name: of the section (`network`, `spd`, ...).
        content: its keys and values.
        origin: the record's name, for messages.

    Returns:
        The section's dataclass.
    """
    kind = next(field.metadata["section"] for field in dataclasses.fields(Params) if field.name == name)
    wrong = []
    section = _build(kind, content, name + ".", wrong)
    _raise(origin, wrong)
    return section


def _raise(origin, wrong):
    if wrong:
        count = "1 problem" if len(wrong) == 1 else f"{len(wrong)} problems"
        raise ParamsError("\n".join([f"{origin}: {count}", *("  " + line for line in wrong)]))


def _build(kind, content, prefix, wrong):
    if not isinstance(content, dict):
        wrong.append(f"{prefix.rstrip('.') or 'the file'}: expected the keys {_keys(kind)}, got {content!r}")
        return None
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, 1)
            hint = f"did you mean {prefix + close[0]}?" if close else f"expected one of {_keys(kind)}"
            wrong.append(f"{prefix}{key}: no such key; {hint}")
    values = {}
    for name, field in fields.items():
        if name not in content:
            wrong.append(f"{prefix}{name}: is missing")
        elif "section" in field.metadata:
            values[name] = _build(field.metadata["section"], content[name], prefix + name + ".", wrong)
        elif "devices" in field.metadata:
            values[name] = _build_devices(content[name], prefix + name, wrong)
        else:
            try:
                values[name] = field.metadata["rule"].check(content[name])
            except WrongKeys as below:
                wrong.extend(f"{prefix}{name}.{key}: {text}" for key, text in below.keys)
            except Wrong as error:
                wrong.append(f"{prefix}{name}: {error}")
    return kind(**values) if len(values) == len(fields) else None


def _keys(kind):
    return ", ".join(field.name for field in dataclasses.fields(kind))


def _build_devices(content, prefix, wrong):
    if not isinstance(content, dict) or not content:
        wrong.append(f"{prefix}: expected the names of devices, each with its options, got {content!r}")
        return {}
    built = {}
    for name, options in content.items():
        key = f"{prefix}.{name}"
        kind = options.get("kind") if isinstance(options, dict) else None
        if not isinstance(name, str) or not NAME.match(name):
            wrong.append(f"{key}: expected a name of letters, digits, _ and -")
        elif kind not in DEVICE_KINDS:
            wrong.append(f"{key}.kind: expected one of {', '.join(DEVICE_KINDS)}, got {kind!r}")
        else:
            built[name] = _build(DEVICE_KINDS[kind], options, key + ".", wrong)
    return built
