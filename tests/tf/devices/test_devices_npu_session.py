"""What a session on an NPU is told, from the options; and what an adapter of either generation would pass over."""

from pathlib import Path

from covpool import config
from covpool.config import npu_keys
from covpool.devices import npu_session


def content_with(**options):
    content = config.read_yaml("params.yaml")
    content["device_options"]["npu"].update(options)
    return content


def parsed(**options):
    return config.parse_params(content_with(**options)).device_options["npu"]


def test_the_session_has_what_the_options_say():
    plain = npu_session.session_parameters(parsed(), "/project/fusion.cfg")
    assert plain == {
        "use_off_line": True,
        "iterations_per_loop": 1,
        "enable_data_pre_proc": False,
        "mix_compile_mode": False,
        "fusion_switch_file": "/project/fusion.cfg",
        "precision_mode": "allow_fp32_to_fp16",
    }
    rich = npu_session.session_parameters(
        parsed(
            precision_mode="",
            iterations_per_loop=4,
            deterministic=True,
            fusion_switch_file="mine.cfg",
            op_cache="/cache",
            profiling="/profile",
            dump="/dump",
            parameter_map={"precision_mode_v2": "origin", "dump_mode": "all"},
        ),
        "/project/fusion.cfg",
    )
    assert Path(rich["fusion_switch_file"]) == Path("mine.cfg").resolve()
    assert "precision_mode" not in rich and rich["precision_mode_v2"] == "origin" and rich["deterministic"] == 1
    assert rich["enable_data_pre_proc"] and rich["iterations_per_loop"] == 4
    assert (rich["op_compiler_cache_mode"], rich["op_compiler_cache_dir"]) == ("enable", "/cache")
    assert rich["profiling_mode"] and '"output": "/profile"' in rich["profiling_options"]
    assert (rich["enable_dump"], rich["dump_path"], rich["dump_mode"]) == (True, "/dump", "all")
    overflow = npu_session.session_parameters(parsed(dump="/dump", parameter_map={"enable_dump_debug": True}), "/f")
    assert "enable_dump" not in overflow and overflow["enable_dump_debug"] and overflow["dump_path"] == "/dump"
    for found in (plain, rich, overflow):
        assert all(npu_keys.PARAMETERS[key].rule.allows(value) for key, value in found.items())


def test_what_an_adapter_does_not_read_is_told_before_it_is_passed_over():
    assert npu_session.unread({"use_off_line": True, "precision_mode": "force_fp32"}, npu_keys.OLD) == []
    assert npu_session.unread({"deterministic": 1}, npu_keys.OLD) == [
        ("deterministic", "this npu_bridge does not read it")
    ]
    assert npu_session.unread({"deterministic": 1, "precision_mode": "cube_fp16in_fp32out"}, npu_keys.NEW) == []
    assert npu_session.unread({"precision_mode": "cube_fp16in_fp32out"}, npu_keys.OLD) == [
        ("precision_mode", "this npu_bridge does not know the value 'cube_fp16in_fp32out'")
    ]
    assert npu_session.unread({"mstune_mode": "1"}, npu_keys.NEW) == [
        ("mstune_mode", "this npu_bridge does not read it; use aoe_mode with work_path instead")
    ]
