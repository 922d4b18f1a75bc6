"""The NPU against the stand-in: the training graph that it gets, and the steps that it makes."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import devices, spd
from covpool.config import ParamsError
from covpool.devices import npu
from tests.tf.devices.npu_graphs import COVARIANCE, begun, graph_on, opened, options


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
