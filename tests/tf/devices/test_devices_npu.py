"""The NPU against the stand-in: what is refused, and the configuration of its session."""

import json
import os
import sys

import pytest
import tensorflow.compat.v1 as tf

from covpool import devices
from covpool.devices import npu
from tests.tf.devices.npu_graphs import begun, opened, options


def test_without_npu_bridge_an_npu_is_refused(params_with):
    with pytest.raises(devices.DeviceError, match="'npu' is an NPU, but this Python .* has no npu_bridge: set dev"):
        opened(params_with())


def test_npu_bridge_that_can_not_be_imported_is_told(params_with, tmp_path, monkeypatch):
    (tmp_path / "npu_bridge").mkdir()
    (tmp_path / "npu_bridge/__init__.py").write_text("raise OSError('libge_runner.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(devices.DeviceError, match="can't be imported .OSError: libge_runner.so.*set_env.sh"):
        opened(params_with())
    assert "npu_bridge" not in sys.modules


def test_an_npu_that_is_not_there_is_refused(params_with, npu_bridge, monkeypatch, tmp_path):
    with pytest.raises(
        devices.DeviceError, match="'npu' is NPU 2, but this host has only 0, 4 .according to npu-smi and /dev"
    ):
        opened(params_with(options(visible_device=2)))
    # In a container the tool may be missing, and the chip's file is there.
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(devices.DeviceError, match="but this host has no NPU"):
        opened(params_with())
    (tmp_path / "davinci0").touch()
    (tmp_path / "davinci_manager").touch()
    monkeypatch.setattr(npu, "DEVICE_FILES", str(tmp_path / "davinci[0-9]*"))
    assert opened(params_with()).record["name"] is None


def test_the_chip_is_chosen_and_the_environment_may_not_say_another(params_with, npu_bridge, monkeypatch):
    monkeypatch.delenv("ASCEND_DEVICE_ID")
    found = opened(params_with(options(visible_device=4)))
    assert os.environ.pop("ASCEND_DEVICE_ID") == "4"
    assert (found.kind, found.record["name"], found.record["driver"]) == ("npu", "910A", "23.0.0")
    assert found.record["npu_bridge"] == "v1.15.0"
    for variable in ("ASCEND_DEVICE_ID", "DEVICE_ID"):
        with monkeypatch.context() as patched:
            patched.setenv(variable, "3")
            told = f"visible_device is 4, but the environment has {variable}=3"
            with pytest.raises(devices.DeviceError, match=told):
                opened(params_with(options(visible_device=4)))


def test_what_a_result_depends_on_is_in_the_record_and_places_are_not(params_with, npu_bridge, tmp_path):
    plain = opened(params_with()).record["options"]
    assert plain["precision_mode"] == "allow_fp32_to_fp16" and len(plain["fusion_switch_file"]) == 64
    elsewhere = opened(params_with(options(op_cache=str(tmp_path / "a"), visible_device=0, dump=str(tmp_path / "b"))))
    assert elsewhere.record["options"] == plain
    assert (tmp_path / "a").is_dir() and (tmp_path / "b").is_dir()
    (tmp_path / "switch.cfg").write_text("{}")
    for changes in (
        options(precision_mode="force_fp32"),
        options(parameter_map={"buffer_optimize": "off_optimize"}),
        options(fusion_switch_file=str(tmp_path / "switch.cfg")),
    ):
        assert opened(params_with(changes)).record["options"] != plain


def test_the_session_is_configured_as_the_adapter_wants_it(built, npu_bridge, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = options(
        precision_mode="allow_mix_precision",
        iterations_per_loop=3,
        profiling="profile",
        dump="dump",
        op_cache="cache",
        parameter_map={"op_select_implmode": "high_precision", "enable_exception_dump": 1, "dump_step": "0|5-7"},
    )
    with begun(built(changes)):
        pass
    recorded = npu_bridge.SESSIONS[-1]
    rewriting = recorded.config.graph_options.rewrite_options
    assert (rewriting.remapping, rewriting.memory_optimization, rewriting.arithmetic_optimization) == (
        rewriting.OFF,
        rewriting.NO_MEM_OPT,
        rewriting.OFF,
    )
    found = recorded.parameters
    switch = found.pop("fusion_switch_file")
    assert os.path.isabs(switch) and tf.io.gfile.exists(switch)
    assert "training_trace" in found.pop("profiling_options")
    assert found == {
        "use_off_line": True,
        "precision_mode": "allow_mix_precision",
        "iterations_per_loop": 3,
        "enable_data_pre_proc": True,
        "mix_compile_mode": False,
        "profiling_mode": True,
        "enable_dump": True,
        "dump_path": str(tmp_path / "dump"),
        "op_compiler_cache_mode": "enable",
        "op_compiler_cache_dir": str(tmp_path / "cache"),
        "op_select_implmode": "high_precision",
        "enable_exception_dump": 1,
        "dump_step": "0|5-7",
    }


def test_the_fusion_switch_is_the_ascend_ports():
    assert json.loads(npu.FUSION_SWITCH.read_text()) == {
        "Switch": {"GraphFusion": {"ALL": "off", "MatrixSetDiagFusionPass": "on"}, "UBFusion": {"ALL": "off"}}
    }


def test_a_fusion_switch_that_is_not_there_is_refused(params_with, npu_bridge):
    with pytest.raises(devices.DeviceError, match="fusion_switch_file must be a file .* can read, got /nowhere/a.cfg"):
        opened(params_with(options(fusion_switch_file="/nowhere/a.cfg")))


@pytest.mark.parametrize("option", ["op_cache", "profiling", "dump"])
def test_folders_that_can_not_be_had_are_refused(params_with, npu_bridge, tmp_path, monkeypatch, option):
    (tmp_path / "file").touch()
    for path, why in (("file", "File exists"), ("file/below", "Not a directory"), ("x" * 300, "File name too long")):
        folder = str(tmp_path / path)
        with pytest.raises(devices.DeviceError) as told:
            opened(params_with(options(**{option: folder})))
        assert str(told.value) == f"device 'npu': can't make the folder of {option}, {folder}: {why}."
    without_leave(monkeypatch, tmp_path / "locked")
    with pytest.raises(
        devices.DeviceError, match=option + " must be a folder that this user can read and write, got .*locked"
    ):
        opened(params_with(options(**{option: str(tmp_path / "locked")})))


def without_leave(monkeypatch, folder):
    """Root may write everywhere: what access(2) would say to another user of a folder with mode 0555."""
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: not mode & os.W_OK if str(path) == str(folder) else access(path, mode)
    )


def test_a_work_path_is_a_folder_to_read_and_write(both_generations, params_with, npu_bridge, tmp_path, monkeypatch):
    mode = {"2021": {"mstune_mode": "1"}, "2026": {"aoe_mode": "2"}}[both_generations]

    def tuned(path):
        return opened(params_with(options(parameter_map=dict(mode, work_path=str(path)))))

    for path in ("/etc/passwd", tmp_path / "nothing"):
        with pytest.raises(devices.DeviceError, match=f"work_path must be an existing folder, got {path}"):
            tuned(path)
    with tuned(tmp_path).session(tf.Graph()):
        pass
    without_leave(monkeypatch, tmp_path)
    with pytest.raises(devices.DeviceError, match="work_path must be a folder that this user can read and write"):
        tuned(tmp_path)


def test_options_that_the_adapter_at_hand_does_not_read_are_refused(both_generations, npu_bridge, params_with):
    newer = options(deterministic=True, precision_mode="cube_fp16in_fp32out")
    older = options(parameter_map={"op_debug_level": 1})
    refused, accepted = (newer, older) if both_generations == "2021" else (older, newer)
    with pytest.raises(devices.DeviceError, match="this npu_bridge does not read it"):
        opened(params_with(refused))
    opened(params_with(accepted)).session(tf.Graph()).close()
