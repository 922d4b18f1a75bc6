"""Several NPUs against the stand-in, in one process: it plays the others as if they had computed the same."""

import json
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from covpool import devices
from covpool.diagnostics import describe
from covpool.training.graph import TrainingGraph
from covpool.training.input_pipeline import Faces

SEVERAL = {
    "devices": ["npu"],
    "network.pooling": "covariance",
    "train.class_weights": "balanced",
    "train.keep_probability": 1.0,
    "device_options.npu.workers": 2,
}


@pytest.fixture
def worker(npu_bridge, monkeypatch, tmp_path):
    """worker(rank): the environment of one of two workers on the chips 0 and 4."""
    table = tmp_path / "rank_table.json"
    chips = [{"device_id": "0", "rank_id": "0"}, {"device_id": "4", "rank_id": "1"}]
    servers = [{"server_id": "10.0.0.1", "device": chips}]
    table.write_text(json.dumps({"status": "completed", "version": "1.0", "server_list": servers}))

    def become(rank):
        own = {
            "RANK_TABLE_FILE": str(table),
            "RANK_SIZE": "2",
            "RANK_ID": str(rank),
            "ASCEND_DEVICE_ID": str([0, 4][rank]),
        }
        for name, value in own.items():
            monkeypatch.setenv(name, value)

    return become


@pytest.fixture
def built(params_with, worker, monkeypatch, narrow):
    """built(changes, rank) -> the training graph of a worker, or of an NPU by itself where rank is None."""

    def make(changes=None, rank=0):
        params = params_with(dict(SEVERAL, **(changes or {})))
        options = params.device_options["npu"]
        if rank is None:
            monkeypatch.setenv("ASCEND_DEVICE_ID", "0")
        else:
            worker(rank)
        device = devices.open_device("npu", options, devices.open_workers("npu", options))
        pixels = np.random.RandomState(0).randint(0, 256, [20, 56, 56, 3]).astype(np.uint8)
        return TrainingGraph(params, device, Faces(pixels, np.arange(20, dtype=np.int32) % 7, []), lambda: 0, 1000)

    return make


def exchanged(graph):
    from npu_bridge import hccl_ops

    found = graph.graph.get_collection(hccl_ops.EXCHANGED)
    return {fusion: [tensor for tensor, by in found if by == fusion] for fusion in (0, 1, 2)}


def begun(graph):
    session = graph.device.session(graph.graph)
    session.run(graph.initialise)
    graph.begin(session)
    return session


def test_a_worker_has_its_own_chip_and_says_how_many_there_are(built, npu_bridge, both_generations):
    graph = built(rank=1)
    device = graph.device
    assert (device.workers.count, device.workers.rank, device.workers.leads) == (2, 1, False)
    assert device.record["count"] == 2 and os.environ["ASCEND_DEVICE_ID"] == "4"
    with begun(graph):
        assert npu_bridge.SESSIONS[-1].parameters["hcom_parallel"] is True


def test_an_npu_by_itself_is_not_connected(built, worker, npu_bridge):
    worker(0)
    graph = built({"device_options.npu.workers": 1}, rank=None)
    assert not {"RANK_TABLE_FILE", "RANK_SIZE", "RANK_ID"} & set(os.environ)
    assert exchanged(graph) == {0: [], 1: [], 2: []}
    with begun(graph):
        assert "hcom_parallel" not in npu_bridge.SESSIONS[-1].parameters


def test_gradients_are_put_together_and_all_else_goes_by_itself(built):
    """Each variable's gradient, and none else, is exchanged as one: the forward pass can't wait for gradients."""
    graph = built()
    found = exchanged(graph)
    assert [each.shape for each in found[1]] == [each.shape for each in graph.variables]
    assert found[2] == [] and len(found[0]) > len(graph.all_variables)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_step_is_that_of_one_npu_if_all_workers_have_the_same(built, rank, npu_bridge):
    """The mean of equals: worker 0's first pictures are those of an NPU by itself."""
    graph = built(rank=rank)
    with begun(graph) as session:
        found = graph.run_step(session, 0.01)
        weights = session.run({each.op.name: each for each in graph.variables})
    alone = built({"device_options.npu.workers": 1}, rank=None)
    with begun(alone) as session:
        wanted = alone.run_step(session, 0.01)
        wanted_weights = session.run({each.op.name: each for each in alone.variables})
    if rank == 0:
        np.testing.assert_allclose(found[:7], wanted[:7], rtol=1e-5)
        np.testing.assert_allclose(found.norms, wanted.norms, rtol=1e-4)
        for name, value in wanted_weights.items():
            np.testing.assert_allclose(weights[name], value, rtol=1e-4, atol=1e-5)
    else:
        assert abs(found.cross_entropy - wanted.cross_entropy) > 1e-3
    assert found.stop is False


def test_all_workers_have_the_same_graph_but_for_constants(built):
    """So an exchange means the same tensor to all of them."""

    def nodes(graph):
        return [(each.name, each.op, list(each.input)) for each in graph.graph.as_graph_def().node]

    assert nodes(built(rank=0)) == nodes(built(rank=1))


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_leader_gives_its_variables_away(built, rank):
    """The stand-in's other worker sends what this one does: twice the leader's, and nothing of another one's."""
    graph = built(rank=rank)
    with begun(graph) as session:
        before = session.run(graph.all_variables)
        assert not graph.follow(session, np.arange(16, dtype=np.float32))
        for old, new in zip(before, session.run(graph.all_variables)):
            np.testing.assert_array_equal(new, (2 - 2 * rank) * old)
        assert graph.follow(session, np.zeros(16, np.float32))


def test_a_worker_that_asks_to_stop_is_heard_and_overflows_skip_together(built):
    graph = built({"device_options.npu.loss_scaling": "dynamic"})
    assert graph.step_values.stop.dtype == tf.float32
    with begun(graph) as session:
        assert graph.run_step(session, 0.0, stop=True).stop is True
        assert graph.run_step(session, 0.0).stop is False
    # The chips' status is exchanged, too.
    plain = built()
    more = len(graph.all_variables) - len(plain.all_variables)
    assert len(exchanged(graph)[0]) == len(exchanged(plain)[0]) + more + 1


def test_a_worker_that_is_not_connected_is_refused(params_with, worker, monkeypatch):
    params = params_with(SEVERAL)
    options = params.device_options["npu"]
    with pytest.raises(devices.DeviceError, match="'npu': nothing connects the NPUs: set RANK_TABLE_FILE"):
        devices.open_workers("npu", options)
    worker(1)
    monkeypatch.setenv("ASCEND_DEVICE_ID", "3")
    with pytest.raises(
        devices.DeviceError, match="RANK_ID is 1 and ASCEND_DEVICE_ID is 3, but .* has device 4 for this"
    ):
        devices.open_workers("npu", options)


def test_a_worker_that_is_only_described_can_not_be_run(params_with, npu_bridge):
    from npu_bridge import contract

    params = params_with(SEVERAL)
    options = params.device_options["npu"]
    workers = describe.first_worker("npu", options)
    device = devices.open_npu("npu", options, must_exist=False, workers=workers)
    graph = describe.blank_graph(params, device)
    with pytest.raises(contract.ContractError, match="no chief, no table"):
        device.session(graph.graph)


def test_an_error_of_the_exchange_is_told(built):
    workers = built().device.workers
    with pytest.raises(devices.LostWorkers, match="can't exchange data: .*HcomAllReduce timeout"):
        with workers.exchange():
            raise tf.errors.InternalError(None, None, "HcomAllReduce timeout\nand more")
    with pytest.raises(tf.errors.InternalError):
        with workers.exchange():
            raise tf.errors.InternalError(None, None, "out of memory")
