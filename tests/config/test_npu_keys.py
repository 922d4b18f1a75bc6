"""The parameter_map of Ascend's adapter: our table against what is on record, and what is refused by name."""

import csv

import pytest

from covpool import config
from covpool.config import npu_keys
from tests.project import ROOT

ON_RECORD = ROOT / "tests" / "tf" / "devices" / "npu_parameter_map.tsv"


def on_record():
    with open(ON_RECORD, newline="") as stream:
        rows = csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t")
        return {row["key"]: row for row in rows}


def content_with(**options):
    content = config.read_yaml("params.yaml")
    content["device_options"]["npu"].update(options)
    return content


def parsed(**options):
    return config.parse_params(content_with(**options)).device_options["npu"]


def refused(**options):
    with pytest.raises(config.ParamsError) as caught:
        parsed(**options)
    return str(caught.value)


def test_the_table_has_the_keys_that_are_on_record():
    rows = on_record()
    assert set(npu_keys.PARAMETERS) == set(rows)
    adapters = {"both": (npu_keys.OLD, npu_keys.NEW), "2021": (npu_keys.OLD,), "2026": (npu_keys.NEW,)}
    for key, parameter in npu_keys.PARAMETERS.items():
        assert parameter.field == rows[key]["field"], key
        assert parameter.adapters == adapters[rows[key]["adapters"]], key


#: Legal and illegal values by the rules of the record.
EXAMPLES = {
    "bool": ([True, False], [1, "true", None]),
    "int": ([0, 3, -1], [True, "3", 1.5]),
    "int 0..": ([0, 63], [-1, True]),
    "int 1..": ([1, 1000], [0, True]),
    "int 0..1": ([0, 1], [2, -1, True]),
    "int 0..2": ([0, 2], [3, -1]),
    "int 0..4": ([0, 4], [5, -1]),
    "int 0..7": ([0, 7], [8, -1]),
    "text": (["a"], ["", True, 1]),
    "path": (["/a/b"], ["", "a/b", 1]),
    "folder": (["/a/b"], ["", "a/b", 1]),
    "file": (["/a/b"], ["", "a/b", 1]),
    "json": (["{}", '{"output": "/a"}'], ["", "on", "[1]", {}]),
    "dump_step": (["0", "0|5|10-20", "|".join(["1"] * 100)], ["", "a", "5-5", "6-5", "0|", "|".join(["1"] * 101), 5]),
    r"pattern \d+": (["1024"], ["1G", "", 1024]),
    r"pattern \d+(,\d+)*": (["0", "0,1"], ["0,", "a", 0]),
}


@pytest.mark.parametrize("key", sorted(npu_keys.PARAMETERS))
def test_each_key_holds_what_is_legal_and_nothing_else(key):
    rule = on_record()[key]["legal"]
    if rule in EXAMPLES:
        good, bad = EXAMPLES[rule]
    else:
        good, bad = [choice.split("@")[0] for choice in rule.split("|")], ["other", "", True, 0]
    parameter = npu_keys.PARAMETERS[key]
    for value in good:
        assert parameter.rule.allows(value), value
    for value in bad:
        assert not parameter.rule.allows(value), value
        if not parameter.given_by:
            assert f"device_options.npu.parameter_map.{key}: expected " in refused(parameter_map={key: value})


@pytest.mark.parametrize(
    "parameter_map, message",
    [
        ({"precison_mode": "force_fp32"}, "precison_mode: no such key; did you mean precision_mode?"),
        ({"sump_mode": "all"}, "sump_mode: no such key; did you mean dump_mode?"),
        ({"zzz": 1}, "zzz: no such key; the adapter reads no key"),
        ({"precision_mode": "force_fp32"}, "precision_mode: is not given here: the option precision_mode sets it"),
        ({"dump_mode": "all"}, "dump_mode: is allowed only with the option dump"),
        ({"enable_dump_debug": True}, "enable_dump_debug: is allowed only with the option dump"),
        ({"aoe_mode": "2"}, "aoe_mode: is allowed only with work_path"),
        ({"dynamic_dims": "1;2"}, "dynamic_dims: is allowed only with the two others"),
        (
            {"dynamic_inputs_shape_range": "getnext:[2]"},
            "shape_range: is allowed only with dynamic_input",
        ),
        ({"optypelist_for_implmode": "Pooling"}, "for_implmode: is allowed only with op_select_implmode"),
        ({"modify_mixlist": "/a"}, "modify_mixlist: is allowed only with a mixed precision mode"),
        (
            {"enable_compress_weight": True, "compress_weight_conf": "/a"},
            "is allowed only without compress_weight_conf",
        ),
    ],
)
def test_a_key_that_the_adapter_would_pass_over_or_die_of_is_refused(parameter_map, message):
    found = refused(parameter_map=parameter_map)
    assert "device_options.npu.parameter_map." in found and message in found


@pytest.mark.parametrize(
    "options, message",
    [
        ({"parameter_map": []}, "expected keys of the adapter's parameter_map with their values, or {}, got []"),
        ({"parameter_map": {"dump_mode": "sump", "graph_run_mode": 2}}, "2 problems"),
        ({"parameter_map": {"precision_mode_v2": "origin"}}, "precision_mode: expected '' with parameter_map"),
        ({"precision_mode": "fp16"}, "precision_mode: expected one of '', allow_fp32_to_fp16"),
        ({"loss_scaling": "on"}, "loss_scaling: expected one of off, dynamic, fixed, got 'on'"),
        ({"loss_scale": 0.5}, "loss_scale: expected a number from 1"),
        ({"iterations_per_loop": 0}, "iterations_per_loop: expected a whole number from 1, got 0"),
        ({"iterations_per_loop": 2, "mix_compile_mode": True}, "per_loop: expected 1 with mix_compile_mode, got 2"),
        ({"mix_compile_mode": "no"}, "mix_compile_mode: expected true or false, got 'no'"),
    ],
)
def test_a_wrong_option_is_refused(options, message):
    assert message in refused(**options)


def test_a_loop_divides_the_epoch_of_a_run_that_uses_it():
    content = content_with(iterations_per_loop=7)
    assert config.parse_params(content).device_options["npu"].iterations_per_loop == 7
    content["devices"] = ["npu"]
    with pytest.raises(
        config.ParamsError, match=r"npu\.iterations_per_loop: expected a divisor of train.epoch_size \(48\)"
    ):
        config.parse_params(content)
    content["device_options"]["npu"]["iterations_per_loop"] = 12
    assert config.parse_params(content).devices == ("npu",)
