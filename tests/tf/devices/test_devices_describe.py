"""What this host has, and what a run would give to its device: the two programs, in processes of their own."""
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf
from npu_standin import STANDIN, give_npu
from training_project import ROOT, Project, without_onednn


def run(project, *arguments):
    found = subprocess.run(
        [str(ROOT / "stages" / "tf"), "-m"] + list(arguments), cwd=str(project.folder), env=project.environment,
        capture_output=True, text=True,
    )  # fmt: skip
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
    found = run(with_standin, "covpool.devices.describe", "--device", "npu", "--out", "out")
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
    assert "| IteratorGetNext:0 | float32 | [6, 48, 48, 3] |" in summary
    assert "| SelfAdjointEigV2 | 1 |" in summary and "Timestamp" not in summary
    open_ones = summary.split("## Shapes that are open")[1]
    listed = [line.split(" | ")[1] for line in open_ones.splitlines() if line.startswith("| ") and ":" in line]
    assert set(listed) <= {"FusedBatchNormV3", "BroadcastGradientArgs"}


def test_without_npu_bridge_it_says_so(project):
    found = run(project, "covpool.devices.describe", "--device", "npu", "--out", "out")
    assert found.returncode == 1 and found.stderr.startswith("describe: device 'npu' is an NPU, and this Python (")
    assert not (project.folder / "out").exists()


def test_what_is_here_is_printed(with_standin):
    give_npu(with_standin)
    with_standin.environment["RANK_TABLE_FILE"] = "/hccl.json"
    found = run(with_standin, "covpool.devices")
    assert found.returncode == 0, found.stderr
    lines = {line[:13].strip(): line[14:] for line in found.stdout.splitlines()}
    assert lines["Python"].endswith("({})".format(sys.executable)) and tf.version.VERSION in lines["TensorFlow"]
    assert lines["NPUs"] == "0 910A (driver 23.0.0); 4 910A (driver 23.0.0)"
    assert lines["npu_bridge"] == "v1.15.0, like the adapter of 2026"
    assert "RANK_TABLE_FILE=/hccl.json" in lines["Ascend, HCCL"]
    assert lines["Run npu"] == "910A is here" and lines["Run cpu"].endswith(" is here")
