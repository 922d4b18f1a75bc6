"""Parameters that README and docs name exist, and may have the values that stand there."""

import copy
import dataclasses
import re

import pytest
import yaml

from covpool.config import Params, ParamsError, build_section, parse_params
from covpool.config.npu_keys import PARAMETERS, wrong_keys
from covpool.config.sections import DEVICE_KINDS
from tests.docs.command_lines import default_content
from tests.docs.markdown import Page, pages
from tests.project import ROOT

SECTIONS = {field.name for field in dataclasses.fields(Params)}
#: `section.key`, and what may follow: `=value` or `: value`.
NAMED = re.compile(r"(?P<key>[a-z_]+(?:\.(?:[a-z0-9_]+|<[a-z]+>))+)(?:(?:=|: )(?P<value>.+))?\Z")
#: The pages tell of files and modules in the same form.
FILE = re.compile(r"\.(py|md|sh|yaml|json|csv|npy|html|png)\Z")


def named_parameters(page):
    """Yield (key, value or None) of the parameters that a page has in inline code."""
    for span in page.spans():
        match = NAMED.match(span)
        if match and match["key"].split(".")[0] in SECTIONS | {"parameter_map"} and not FILE.search(match["key"]):
            yield match["key"], match["value"]


def fault(key, value):
    """Return what is wrong with a parameter's name and value, or ''."""
    first, *rest = key.split(".")
    if first == "parameter_map":
        if rest[0] not in PARAMETERS or value is None:
            return "" if rest[0] in PARAMETERS else f"no such key: {key}"
        return "; ".join(text for _, text in wrong_keys({rest[0]: yaml.safe_load(value)}))
    if first == "device_options" and len(rest) > 1:
        return _option_fault(key, rest, value)
    if first == "device_options":
        return "" if rest[0].startswith("<") or rest[0] in default_content()["device_options"] else f"no entry {key}"
    place = default_content()
    for name in [first, *rest]:
        if not isinstance(place, dict) or name not in place:
            return f"no such parameter: {key}"
        place = place[name]
    return "" if value is None or re.fullmatch(r"[A-Z]|<.*>", value) else _value_fault(first, rest, value)


def _value_fault(section, names, value):
    """What is wrong with a value by the rule of its key alone, or ''."""
    content = copy.deepcopy(default_content()[section])
    place = content
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = yaml.safe_load(value)
    try:
        build_section(section, content, "params.yaml")
    except ParamsError as error:
        return str(error)
    return ""


def _option_fault(key, rest, value):
    """What is wrong with an option of a device, or ''; `<run>` stands for a run of any kind."""
    name, option = rest[:2]
    kinds = DEVICE_KINDS if name.startswith("<") else {name: DEVICE_KINDS.get(name)}
    fitting = [kind for kind in kinds.values() if kind and option in {field.name for field in dataclasses.fields(kind)}]
    return "" if fitting else f"no such parameter: {key}"


def test_every_parameter_that_is_named_exists():
    named = [(page.name, key, value) for page in pages() for key, value in named_parameters(page)]
    assert len(named) > 30
    faults = [(name, fault(key, value)) for name, key, value in named]
    assert not [f"{name}: {wrong}" for name, wrong in faults if wrong]


@pytest.mark.parametrize(
    "span",
    [
        "train.epoch",
        "train.batch_size: 1",
        "normalise.detector=mtcn",
        "dataset.splits.val",
        "device_options.npu.precision",
        "device_options.<run>.worker",
        "device_options.tpu",
        "parameter_map.precison_mode",
        "parameter_map.enable_dump_debug: 1",
        "report.tolerance",
    ],
)
def test_a_parameter_that_does_not_exist_is_noticed(span):
    ((key, value),) = named_parameters(Page("a.md", f"Set `{span}`, not `{span.split('.')[0]}`."))
    assert fault(key, value)


def test_right_names_are_taken():
    spans = ("train.epochs", "device_options.<run>.workers: N", "device_options.npu.dump", "dataset.kind: folder")
    text = ", ".join(f"`{span}`" for span in (*spans, "train.sh"))
    named = list(named_parameters(Page("a.md", text)))
    assert len(named) == 4
    assert [fault(key, value) for key, value in named] == ["", "", "", ""]


def option_tables(page):
    """Yield the options in the first column of each table whose first heading is `option`."""
    for table in re.findall(r"^\| option \|.*\n\|[-| ]+\n((?:\|.*\n?)+)", page.text, re.MULTILINE):
        for row in table.splitlines():
            yield from re.findall(r"`([^`]+)`", row.split(" | ")[0])


def test_every_option_in_a_table_exists():
    known = {field.name for kind in DEVICE_KINDS.values() for field in dataclasses.fields(kind)}
    named = {option for page in pages() for option in option_tables(page)}
    assert len(named) > 10
    assert named <= known
    assert "mode" in set(option_tables(Page("a.md", "| option | x |\n|---|---|\n| `mode` | y |\n")))


def yaml_fault(text):
    """Return what is wrong with params.yaml when the top-level keys of a YAML block are put into it, or ''."""
    content = {**yaml.safe_load((ROOT / "params.yaml").read_text()), **yaml.safe_load(text)}
    try:
        parse_params(content)
    except ParamsError as error:
        return str(error)
    return ""


def test_yaml_blocks_are_parameters():
    blocks = [(page.name, text) for page in pages() for language, text in page.blocks() if language == "yaml"]
    assert blocks
    assert not [f"{name}: {yaml_fault(text)}" for name, text in blocks if yaml_fault(text)]
    assert "build" in yaml_fault("devices: [cpu]\ndevice_options: {cpu: {kind: cpu, build: 1, python: ''}}\n")
