"""What this host has, and what a run would give to its device: the two programs, in processes of their own."""

import concurrent.futures
import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import yaml

from tests.tf.devices.npu_standin import STANDIN, give_npu
from tests.tf.training.training_project import ROOT, SMALL, Project, content_with, without_onednn


def run(project, *arguments):
    found = subprocess.run(
        [str(ROOT / "stages" / "tf"), "-m"] + list(arguments),
        cwd=str(project.folder),
        env=project.environment,
        capture_output=True,
        text=True,
    )
    found.stderr = without_onednn(found.stderr)
    return found


@pytest.fixture
def project(tmp_path):
    changes = {"device_options.npu.iterations_per_loop": 3, "network.pooling": "covariance"}
    return Project(tmp_path / "project", changes, device="npu")


@pytest.fixture
def with_standin(project):
    """npu_bridge can be imported, and there is no NPU."""
    project.environment["PYTHONPATH"] = str(STANDIN)
    return project


def test_graph_and_configuration_are_written_without_an_npu(with_standin):
    found = run(with_standin, "covpool.diagnostics.describe", "--device", "npu", "--out", "out")
    assert (found.returncode, found.stdout) == (0, "describe: see out/summary.md\n"), found.stderr
    out = with_standin.folder / "out"
    config = tf.ConfigProto.FromString((out / "config.pb").read_bytes())
    [optimizer] = config.graph_options.rewrite_options.custom_optimizers
    assert optimizer.name == "NpuOptimizer" and optimizer.parameter_map["iterations_per_loop"].i == 3
    meta = tf.MetaGraphDef.FromString((out / "graph.meta").read_bytes())
    shapes = {node.name: node.attr["_output_shapes"].list.shape for node in meta.graph_def.node}
    batch = shapes["IteratorGetNext"][0]
    assert [dim.size for dim in batch.dim] == [6, 48, 48, 3]
    # It can be loaded, and its variables are known.
    with tf.Graph().as_default():
        tf.train.import_meta_graph(meta)
        assert "CovPool2/spdpooling1/orth_weight0" in {each.op.name for each in tf.global_variables()}
    summary = (out / "summary.md").read_text()
    assert "| iterations_per_loop | i | 3 |" in summary and "3 in one session.run" in summary
    assert r"| IteratorGetNext:0 | float32 | \[6, 48, 48, 3\] |" in summary
    assert "| SelfAdjointEigV2 | 1 |" in summary and "Timestamp" not in summary
    open_ones = summary.split("## Shapes that are open")[1]
    listed = [
        line.split(" | ")[1] for line in open_ones.splitlines() if line.startswith("| ") and re.search(r":\d", line)
    ]
    assert set(listed) <= {"FusedBatchNormV3", "BroadcastGradientArgs"}


def described(project, name, count):
    """The summary of a run with `count` workers, and the MetaGraphDef."""
    project.change({f"device_options.{name}.workers": count, "network.pooling": "covariance"})
    found = run(project, "covpool.diagnostics.describe", "--device", name, "--out", f"out-{count}")
    assert found.returncode == 0, found.stderr
    out = project.folder / f"out-{count}"
    return out, (out / "summary.md").read_text(), tf.MetaGraphDef.FromString((out / "graph.meta").read_bytes())


def exchanges(summary):
    """{what: (how many, bytes)} of the summary's table."""
    section = summary.split("## What workers exchange in a step")[1].split("##")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
    return {what: (int(many), int(size)) for what, many, size in cells}


def test_worker_0_of_several_npus_is_described_with_what_it_exchanges(with_standin):
    """No rank table, no chief, nobody else: nothing is run. The counts are those of the graph that was written."""
    assert not {"RANK_TABLE_FILE", "RANK_SIZE", "CM_CHIEF_IP"} & set(with_standin.environment)
    out, summary, meta = described(with_standin, "npu", 8)
    assert "Worker 0 of 8;" in summary and "6 pictures of 48x48 (of 8 workers together 48);" in summary
    config = tf.ConfigProto.FromString((out / "config.pb").read_bytes())
    [optimizer] = config.graph_options.rewrite_options.custom_optimizers
    assert optimizer.parameter_map["hcom_parallel"].b is True and "| hcom_parallel | b | True |" in summary
    with tf.Graph().as_default():
        tf.train.import_meta_graph(meta)
        trained, everything = (
            [each.shape.num_elements() for each in found] for found in (tf.trainable_variables(), tf.global_variables())
        )
    found = exchanges(summary)
    # All is of four bytes.
    assert found["gradients"] == (len(trained), 4 * sum(trained))
    made = [
        np.prod([dim.size for dim in node.attr["_output_shapes"].list.shape[0].dim], dtype=np.int64)
        for node in meta.graph_def.node
        if node.name.endswith("/HcomAllReduce")
    ]
    # Beside a step's: every variable once, at the start; 16 numbers to compare; a row of 5 a worker, at an epoch's end.
    assert found["together"] == (len(made) - len(everything) - 2, 4 * (sum(made) - sum(everything) - 16 - 8 * 5))
    assert found["all else"][0] > 2 * 6  # the moving statistics of six convolutions, and more


def test_an_npu_by_itself_exchanges_nothing(with_standin):
    _, summary, meta = described(with_standin, "npu", 1)
    assert "exchange" not in summary and "Worker 0" not in summary and "hcom_parallel" not in summary
    assert not [node.name for node in meta.graph_def.node if "HcomAllReduce" in node.name]


def test_an_overflow_that_the_adapter_exchanges_is_named(with_standin):
    with_standin.change(
        {
            "device_options.npu.workers": 2,
            "device_options.npu.loss_scaling": "dynamic",
            "device_options.npu.precision_mode": "allow_mix_precision",
        }
    )
    assert run(with_standin, "covpool.diagnostics.describe", "--device", "npu", "--out", "out").returncode == 0
    assert "The adapter adds one for loss scaling" in (with_standin.folder / "out/summary.md").read_text()


def test_without_horovod_the_summary_says_that_the_exchange_is_not_shown(project):
    if importlib.util.find_spec("horovod"):
        pytest.skip("this Python has Horovod; tests/workers looks at what is shown then")
    _, summary, _ = described(project, "cpu", 2)
    assert "The run has 2 workers. What they exchange is not shown" in summary
    assert f"this Python ({sys.executable}) has no Horovod. Run `make setup-workers`" in summary
    assert "6 pictures of 48x48; 3 steps" in summary and "## What workers exchange" not in summary


def test_without_npu_bridge_it_says_so(project):
    found = run(project, "covpool.diagnostics.describe", "--device", "npu", "--out", "out")
    assert found.returncode == 1 and found.stderr.startswith("describe: device 'npu' is an NPU, but this Python (")
    assert not (project.folder / "out").exists()


def test_what_is_here_is_printed(with_standin):
    give_npu(with_standin)
    with_standin.environment["RANK_TABLE_FILE"] = "/hccl.json"
    found = run(with_standin, "covpool.diagnostics")
    assert found.returncode == 0, found.stderr
    lines = {line[:13].strip(): line[14:] for line in found.stdout.splitlines()}
    assert lines["Python"].endswith(f"({sys.executable})") and tf.version.VERSION in lines["TensorFlow"]
    assert lines["NPUs"] == "0 910A (driver 23.0.0); 4 910A (driver 23.0.0)"
    assert lines["npu_bridge"] == "v1.15.0, like the adapter of 2026"
    assert "RANK_TABLE_FILE=/hccl.json" in lines["Ascend, HCCL"]
    assert lines["Run npu"] == "910A is here" and lines["Run cpu"].endswith(" is here")


def runs_of(project):
    """What `covpool.diagnostics` says of each entry of device_options, and the files that it leaves."""
    before = sorted(project.folder.glob("**/*"))
    found = run(project, "covpool.diagnostics")
    assert found.returncode == 0, found.stderr
    assert sorted(project.folder.glob("**/*")) == before
    return dict(re.findall(r"^Run (\w+)\s+(.*)$", found.stdout, re.MULTILINE))


def train(project, name):
    """The sentence by which the stage refuses a run."""
    found = subprocess.run(
        [str(ROOT / "stages" / "tf"), str(ROOT / "stages" / "train.py"), "--device", name],
        cwd=str(project.folder),
        env=project.environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1, found.stdout
    return " ".join(re.sub(r"\Atrain: ", "", without_onednn(found.stderr)).split("\n")).strip()


def entries(project, **changed):
    """device_options with the runs `changed`, {name: (the entry that it is like, {key: value})}, and no others."""
    content = content_with(SMALL)
    known = content["device_options"]
    content["device_options"] = {name: dict(known[like], **changes) for name, (like, changes) in changed.items()}
    content["devices"] = list(changed)
    (project.folder / "params.yaml").write_text(yaml.safe_dump(content))


def test_each_run_is_looked_at_by_itself(with_standin):
    """Choosing the one NPU is in no way of the other, and folders to write to are not made."""
    give_npu(with_standin)
    for variable in ("ASCEND_DEVICE_ID", "DEVICE_ID"):
        with_standin.environment.pop(variable, None)
    folders = {"dump": "a/dump", "op_cache": "b", "profiling": "c"}
    entries(with_standin, npu=("npu", folders), other=("npu", {"visible_device": 4}))
    assert runs_of(with_standin) == {"npu": "910A is here", "other": "910A is here"}


def test_a_run_that_would_be_refused_has_the_sentence_of_the_stage(with_standin):
    give_npu(with_standin)
    entries(
        with_standin,
        third=("npu", {"visible_device": 3}),
        eight=("npu", {"workers": 8}),
        file=("npu", {"dump": "params.yaml"}),
        below=("npu", {"op_cache": "params.yaml/cache"}),
        nowhere=("cpu", {"python": "/nowhere/python"}),
        card=("gpu", {}),
    )
    # Whatever this machine has, this run sees no card.
    with_standin.environment["CUDA_VISIBLE_DEVICES"] = ""
    told = runs_of(with_standin)
    with concurrent.futures.ThreadPoolExecutor(len(told)) as pool:
        refused = dict(zip(told, pool.map(lambda name: train(with_standin, name), told)))
    assert told == refused and len(refused) == 6
    assert "nothing connects the NPUs" in told["eight"] and "is not a program" in told["nowhere"]


def test_workers_are_looked_at_as_those_of_a_run(with_standin):
    give_npu(with_standin)
    # Of the two chips, 0 and 1, npu-smi shows the first.
    with_standin.environment.update(
        CM_CHIEF_IP="127.0.0.1",
        CM_CHIEF_PORT="60001",
        CM_CHIEF_DEVICE="0",
        CM_WORKER_SIZE="2",
        CM_WORKER_IP="127.0.0.1",
    )
    entries(with_standin, alone=("npu", {}), pair=("npu", {"workers": 2}), cpus=("cpu", {"workers": 2}))
    told = runs_of(with_standin)
    assert told["alone"].startswith("device 'alone' has workers: 1, but CM_WORKER_SIZE is for 2")
    assert told["pair"].startswith("device 'pair' is NPU 1, but this host has only 0, 4")
    if importlib.util.find_spec("horovod"):
        assert told["cpus"].endswith(", for 2 workers, is here")
    else:
        assert told["cpus"] == train(with_standin, "cpus")


def test_workers_that_can_start_are_here(with_standin):
    give_npu(with_standin)
    table = with_standin.folder / "table.json"
    table.write_text(
        json.dumps(
            {
                "status": "completed",
                "version": "1.0",
                "server_count": "1",
                "server_list": [
                    {
                        "server_id": "127.0.0.1",
                        "device": [
                            {"device_id": chip, "rank_id": rank, "device_ip": "10.0.0." + chip}
                            for rank, chip in (("0", "0"), ("1", "4"))
                        ],
                    }
                ],
            }
        )
    )
    with_standin.environment["RANK_TABLE_FILE"] = str(table)
    entries(with_standin, pair=("npu", {"workers": 2}))
    assert runs_of(with_standin) == {"pair": "910A, for 2 workers, is here"}
