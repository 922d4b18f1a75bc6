"""The NPU against the stand-in: what is refused, the session's configuration, and the training graph that it gets."""

import json
import os
import re
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import devices, spd
from covpool.config import ParamsError
from covpool.devices import npu
from covpool.training.graph import TrainingGraph
from covpool.training.input_pipeline import Faces

COVARIANCE = {"devices": ["npu"], "network.pooling": "covariance"}


def opened(params, must_exist=True):
    return devices.open_npu("npu", params.device_options["npu"], must_exist)


def options(**given):
    return {"device_options.npu." + key: value for key, value in given.items()}


def graph_on(device, params):
    pixels = np.random.RandomState(0).randint(0, 256, [20, 56, 56, 3]).astype(np.uint8)
    faces = Faces(pixels, np.arange(20, dtype=np.int32) % 7, [])
    return TrainingGraph(params, device, faces, lambda: 0, 1000)


@pytest.fixture
def built(params_with, npu_bridge, narrow):
    """built(changes) -> the training graph of the small run on the NPU."""

    def make(changes=None):
        params = params_with(dict(COVARIANCE, **(changes or {})))
        return graph_on(opened(params), params)

    return make


def begun(graph):
    session = graph.device.session(graph.graph)
    session.run(graph.initialise)
    graph.begin(session)
    return session


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


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"spd.method": "iterative", "network.vectorise": "upper"},
        {"network.pooling": "gaussian"},
        {"network.pooling": "average", "network.model_def": "covpoolnet", "train.class_weights": "balanced"},
        {"train.optimizer": "MOM", "train.moving_average_decay": 0},
        {"train.optimizer": "ADAGRAD"},
        {"train.optimizer": "ADADELTA"},
        {"train.optimizer": "RMSPROP", "train.log_histograms": True},
        options(loss_scaling="dynamic"),
    ],
)
def test_the_graph_has_supported_operations_of_known_shape_only(built, npu_bridge, changes):
    """The stand-in walks what each session.run gives to the device: the step, validation, weights kept and loaded."""
    from npu_bridge import contract

    graph = built(changes)
    everything = [graph.step, graph.logits, graph.weight_norms, graph.initialise, graph.restart_averages]
    everything += list(graph.step_values) + list(graph.inference.values()) + list(graph.load._loads.values())
    everything += [each for each in (graph.orthogonality, graph.histograms) if each is not None]
    operations = [getattr(each, "op", each) for each in everything]
    contract.check_graph(operations, {})
    types = {each.type for each in contract.on_device(operations) if not contract.is_the_adapters(each)}
    assert {"Conv2D", "Conv2DBackpropFilter", "ReadVariableOp"} <= types
    assert not types & {"IsFinite", "IsNan", "IsInf", "Timestamp", "StatelessRandomUniform", "Where", "Unique"}


@pytest.mark.parametrize(
    "changes, refused",
    [
        ({}, "StatelessRandomUniform"),
        ({"train.keep_probability": 1.0}, "Timestamp"),
    ],
)
def test_the_walk_finds_what_the_processors_graph_has_and_an_npu_lacks(npu_bridge, params_with, changes, refused):
    from npu_bridge import contract

    params = params_with(dict(COVARIANCE, **changes))
    device = devices.open_cpu()
    device.tells_time = refused == "Timestamp"
    graph = graph_on(device, params)
    fetched = [graph.step] + [each.op for each in graph.step_values]
    with pytest.raises(contract.ContractError, match="operation " + refused):
        contract.check_graph(fetched, {})


@pytest.mark.parametrize(
    "change, refused",
    [
        ({"aoe_mode": "2"}, "aoe_mode needs work_path"),
        ({"profiling_mode": True, "profiling_options": "on"}, "profiling_options: 'on' is not json"),
        ({"profiling_mode": True, "profiling_options": "[1]"}, "profiling_options: .* is not json"),
        ({"fusion_switch_file": "/nowhere/switch.cfg"}, "fusion_switch_file: '/nowhere/switch.cfg' is not file"),
        ({"modify_mixlist": "/list", "precision_mode_v2": "origin"}, "modify_mixlist without a mix precision mode"),
        ({"modify_mixlist": "/list"}, "modify_mixlist without a mix precision mode"),
        ({"modify_mixlist": "/list", "precision_mode_v2": "mixed_float16"}, None),
        ({"modify_mixlist": "/list", "precision_mode": "allow_mix_precision"}, None),
    ],
)
def test_the_stand_in_dies_of_what_an_adapter_dies_of_or_passes_over(npu_bridge, change, refused):
    from npu_bridge import contract

    config = npu.session_config(dict({"use_off_line": True}, **change))
    if refused is None:
        contract.check_config(config)
        return
    with pytest.raises(contract.ContractError, match=refused):
        contract.check_config(config)


@pytest.mark.parametrize("mode, allowed", [("mixed_float16", True), ("mixed_hif8", True), ("origin", False)])
def test_a_mix_list_goes_with_mix_precision_for_us_as_for_the_stand_in(
    params_with, npu_bridge, tmp_path, mode, allowed
):
    (tmp_path / "list.json").write_text("{}")
    given = {"precision_mode_v2": mode, "modify_mixlist": str(tmp_path / "list.json")}
    changes = options(precision_mode="", parameter_map=given)
    if allowed:
        with opened(params_with(changes)).session(tf.Graph()):
            return
    with pytest.raises(ParamsError, match="modify_mixlist: is allowed only with a mixed precision mode"):
        params_with(changes)


def test_an_open_shape_is_found(npu_bridge):
    from npu_bridge import contract

    images = tf.placeholder(tf.float32, [None, 4])
    with pytest.raises(contract.ContractError, match=r"Relu:0: the shape is \((\?|None), 4\)"):
        contract.check_graph([tf.nn.relu(images).op], {})


@pytest.mark.parametrize("method", ["eigh", "iterative"])
def test_the_spd_part_is_kept_in_float32_and_nothing_else(both_generations, built, method):
    """Every product, decomposition and logarithm on matrices, of the step and of scoring, forward and backward."""
    graph = built({"spd.method": method}).graph
    marked = {each for each in graph.get_operations() if "_keep_dtype" in each.node_def.attr}
    value = next(iter(marked)).get_attr("_keep_dtype")
    assert value is True if both_generations == "2021" else value == 1
    matrices = [each for each in graph.get_operations() if each.type in ("BatchMatMulV2", "SelfAdjointEigV2", "Qr")]
    # Products with W, or with a square of its size.
    frames = [
        each
        for each in graph.get_operations()
        if each.type == "MatMul"
        and any(
            each_input.shape.as_list() in ([256, 128], [128, 128])
            and "fc_1" not in each_input.op.name
            and "Bottleneck" not in each_input.op.name
            for each_input in each.inputs
        )
    ]
    assert len(matrices) >= 3 and len(frames) >= 3
    assert not [each.name for each in matrices + frames if each not in marked]
    gradients = [each for each in matrices if each.name.startswith("gradients")]
    assert gradients
    assert not [each.name for each in marked if each.type.startswith(("Conv2D", "MaxPool", "FusedBatchNorm"))]
    assert not [each.name for each in marked if re.search("fc_1/|Bottleneck/|Logits/", each.name)]
    assert marked == set(spd.operations(graph))


def steps(graph, session, count, rate=0.01):
    return [graph.run_step(session, rate) for _ in range(count)]


def weights(graph, session):
    return session.run({each.op.name: each for each in graph.variables})


BARE = {"train.keep_probability": 1.0, "network.pooling": "average"}


def test_a_step_that_overflows_is_skipped_and_the_scale_halves_after_two(params_with, npu_bridge, narrow):
    """A heavy center loss gives gradients of some 10, which at a scale of 2e38 overflow float32 itself."""
    changes = dict(COVARIANCE, **dict(BARE, **options(loss_scaling="dynamic")), **{"train.center_loss_factor": 1000.0})
    params = params_with(changes)
    # More than the parameters allow.
    object.__setattr__(params.device_options["npu"], "loss_scale", 2e38)
    graph = graph_on(opened(params), params)
    with begun(graph) as session:
        before = weights(graph, session)
        found = steps(graph, session, 2)
        assert all(np.isfinite(each.loss) and not np.isfinite(each.norms).all() for each in found)
        after = weights(graph, session)
        assert all(np.array_equal(after[name], before[name]) for name in before)
        reading = "npu_bridge/loss_scale/Read/ReadVariableOp:0"
        assert session.run(reading) == np.float32(1e38)
        for _ in range(30):
            if np.isfinite(graph.run_step(session, 0.01).norms).all():
                break
        moved = weights(graph, session)
        assert session.run(reading) < 1e38
        assert not np.array_equal(moved["Logits/weights"], before["Logits/weights"])


def test_a_loop_on_the_device_makes_its_steps_and_tells_the_last_ones_loss(built, npu_bridge):
    single, loop = built(BARE), built(dict(BARE, **options(iterations_per_loop=3)))
    with begun(single) as session:
        one_by_one = steps(single, session, 6)
        wanted = weights(single, session)
    with begun(loop) as session:
        assert loop.device.steps_per_run == 3
        looped = steps(loop, session, 2)
        assert [each.loss for each in looped] == [one_by_one[2].loss, one_by_one[5].loss]
        assert session.run(loop.global_step) == 6
        for name, value in weights(loop, session).items():
            np.testing.assert_array_equal(value, wanted[name])
    assert "IterationOp" in npu_bridge.SESSIONS[-1].runs[-3]


def test_a_loops_session_runs_nothing_of_a_graph_without_a_dataset(params_with, npu_bridge):
    from npu_bridge import contract

    looped = params_with(options(iterations_per_loop=3))
    with tf.Graph().as_default() as graph:
        one = tf.ones([2]) + 1
    with opened(looped).session(graph) as session, pytest.raises(contract.ContractError, match="needs a Dataset with"):
        session.run(one)
    device = devices.open_npu("npu", devices.without_loop(looped.device_options["npu"]))
    assert device.steps_per_run == 1
    with device.session(graph) as session:
        assert list(session.run(one)) == [2, 2]
    assert not npu_bridge.SESSIONS[-1].parameters["enable_data_pre_proc"]


def test_the_devices_own_dropout_keeps_the_share_that_is_asked_for(params_with, npu_bridge):
    drop = opened(params_with()).dropout(0.8)
    with tf.Session() as session:
        found = session.run(drop(tf.ones([100, 100]), 7))
    assert set(np.unique(found)) == {0, np.float32(1.25)} and 0.77 < np.mean(found > 0) < 0.83
