"""Reads params.yaml into its sections, and reports at once all that is wrong with it.

Each wrong key or value is named with what was given and what is allowed.
"""

import dataclasses
import difflib
from pathlib import Path

from covpool.config.cross_checks import check_together
from covpool.config.errors import ParamsError
from covpool.config.rules import NAME, Wrong, WrongKeys
from covpool.config.sections import DEVICE_KINDS, Params
from covpool.config.yaml_file import read_yaml

PARAMS_FILE = Path("params.yaml")


def load_params(path=PARAMS_FILE):
    """Read and validate the parameters.

    Returns a `Params`. Raises ParamsError that names every wrong key and value, and what is allowed there.
    """
    return parse_params(read_yaml(path), str(path))


def parse_params(content, origin="params"):
    """`Params` from the content of a params.yaml; see `load_params`."""
    wrong = []
    params = _build(Params, content, "", wrong)
    _raise(origin, wrong)
    check_together(params, wrong)
    _raise(origin, wrong)
    return params


def build_section(name, content, origin):
    """One section by its name (`network`, `spd`, ...) from a record that holds it as plain values."""
    kind = next(field.metadata["section"] for field in dataclasses.fields(Params) if field.name == name)
    wrong = []
    section = _build(kind, content, name + ".", wrong)
    _raise(origin, wrong)
    return section


def _raise(origin, wrong):
    if wrong:
        count = "1 thing is wrong" if len(wrong) == 1 else f"{len(wrong)} things are wrong"
        raise ParamsError("{}: {}\n{}".format(origin, count, "\n".join("  " + line for line in wrong)))


def _build(kind, content, prefix, wrong):
    if not isinstance(content, dict):
        wrong.append("{}: wanted keys {}, given {!r}".format(prefix.rstrip(".") or "the file", _keys(kind), content))
        return None
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, 1)
            hint = f"did you mean {prefix + close[0]}?" if close else "wanted one of " + _keys(kind)
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
                values[name] = field.metadata["check"](content[name])
            except WrongKeys as below:
                wrong.extend(f"{prefix}{name}.{key}: {text}" for key, text in below.keys)
            except Wrong as allowed:
                wrong.append(f"{prefix}{name}: wanted {allowed}, given {content[name]!r}")
    return kind(**values) if len(values) == len(fields) else None


def _keys(kind):
    return ", ".join(field.name for field in dataclasses.fields(kind))


def _build_devices(content, prefix, wrong):
    if not isinstance(content, dict) or not content:
        wrong.append(f"{prefix}: wanted a name a device, each with its options, given {content!r}")
        return {}
    built = {}
    for name, options in content.items():
        key = f"{prefix}.{name}"
        kind = options.get("kind") if isinstance(options, dict) else None
        if not isinstance(name, str) or not NAME.match(name):
            wrong.append(f"{key}: a name is letters, digits, _ and -")
        elif kind not in DEVICE_KINDS:
            wrong.append("{}.kind: wanted one of {}, given {!r}".format(key, ", ".join(DEVICE_KINDS), kind))
        else:
            built[name] = _build(DEVICE_KINDS[kind], options, key + ".", wrong)
    return built
