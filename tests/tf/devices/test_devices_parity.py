"""Comparing two sides: what differs is told, where it begins, and each side runs in a process of its own."""
import json
import subprocess

import numpy as np
import pytest
from npu_standin import give_npu
from training_project import ROOT, Project, without_onednn

from covpool.devices import parity, parity_side
from covpool.params import ParamsError


def side(losses, **layers):
    about = {"side": "cpu", "device": {"name": "a processor"}, "tensorflow": {"version": "1.15", "build": "stock"}}
    values = np.zeros([len(losses), len(parity_side.VALUES)])
    values[:, 0] = losses
    arrays = {"layer/" + name: np.asarray(output, np.float32) for name, output in layers.items()}
    return dict(arrays, values=values, gradients=np.float32([[3.0, 4.0]] * len(losses)),
                variables=np.array(["a", "b"]), about=np.array(json.dumps(about)))  # fmt: skip


def test_the_first_step_beyond_the_tolerance_is_told():
    found = parity.compare(side([2.0, 1.01, 1.2]), side([2.0, 1.0, 1.0]), tolerance=0.05)
    assert [row["difference"] for row in found["steps"]] == pytest.approx([0, 0.01, 0.2])
    assert found["diverges"] == 3
    assert parity.verdict(found) == "Beyond the tolerance of 0.05 from step 3 of 3 on: 1.200000 beside 1.000000."
    close = parity.compare(side([2.0, 1.01]), side([2.0, 1.0]), tolerance=0.05)
    assert close["diverges"] is None
    assert parity.verdict(close) == "Within the tolerance of 0.05 in all of 2 steps; the largest difference is 0.01."


def test_what_is_not_finite_diverges_and_is_written_as_such():
    found = parity.compare(side([2.0, np.nan], a=[1, np.inf]), side([2.0, 1.0], a=[1, 2]), tolerance=1.0)
    assert found["diverges"] == 2 and found["layers"] == {"a": None}
    text = "\n".join(parity.report(found))
    assert "| 2 | not finite | 1.000000 | not finite |" in text and "| a | not finite |" in text
    json.dumps(found, allow_nan=False)


def test_layers_differ_by_the_root_mean_square_in_the_order_of_the_computation():
    one, other = side([1.0], first=[3.0, 4.0], second=np.zeros(3)), side([1.0], first=[3.0, 4.5], second=np.zeros(3))
    other["gradients"][0] = [3.0, 5.0]
    found = parity.compare(one, other, tolerance=1.0)
    assert list(found["layers"]) == ["first", "second"]
    assert found["layers"]["first"] == pytest.approx(0.5 / np.hypot(3.0, 4.5)) and found["layers"]["second"] == 0
    assert found["gradients"] == {"a": 0, "b": pytest.approx(0.2)}
    assert parity.difference([1e-3], [0.0]) > 1e100


def test_a_side_is_a_run_or_a_run_with_another_tensorflow(params_with):
    params = params_with({"device_options.npu.iterations_per_loop": 3, "device_options.gpu.workers": 2})
    assert parity_side.side_options(params, "cpu") == ("cpu", params.device_options["cpu"])
    assert parity_side.side_options(params, "cpu@tf2")[1].build == "tf2"
    assert parity_side.side_options(params, "gpu")[1].workers == 1
    name, options = parity_side.side_options(params, "npu@/opt/python3.7")
    # A loop shows its last step only.
    assert (name, options.python, options.iterations_per_loop) == ("npu", "/opt/python3.7", 1)
    with pytest.raises(ParamsError, match="'tpu': device_options has cpu, gpu, npu"):
        parity_side.side_options(params, "tpu@tf2")


@pytest.fixture
def project(tmp_path):
    changes = {
        "network.pooling": "covariance", "network.vectorise": "upper", "device_options.npu.loss_scaling": "fixed",
    }  # fmt: skip
    return Project(tmp_path / "project", changes)


def run(project, *arguments):
    return subprocess.run(
        [str(ROOT / "stages" / "tf"), "-m", "covpool.devices.parity"] + list(arguments), cwd=str(project.folder),
        env=project.environment, capture_output=True, text=True,
    )  # fmt: skip


def test_processor_and_npu_take_the_same_steps(project):
    """The stand-in computes on the processor, and its loss scale is a power of two: all that may differ is rounding."""
    give_npu(project)
    found = run(project, "cpu", "npu", "--steps", "3", "--learning-rate", "1e-5", "--tolerance", "1e-4")
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.startswith("parity: Within the tolerance of 0.0001 in all of 3 steps;")
    told = json.loads((project.folder / "parity/parity.json").read_text())
    assert [each["side"] for each in told["sides"]] == ["cpu", "npu"]
    assert [each["device"]["name"] for each in told["sides"]][1] == "910A"
    assert len({row["one"] for row in told["steps"]}) == 3
    layers = list(told["layers"])
    assert layers[:2] == ["images", "Conv2d_1"] and layers[-5:] == ["bimap", "logeig", "fc_1", "Bottleneck", "Logits"]
    assert all(apart < 1e-3 for apart in list(told["layers"].values()) + list(told["gradients"].values()))
    report = (project.folder / "parity/parity.md").read_text()
    assert "# Parity: cpu beside npu" in report and "| CovPool2/spdpooling1/orth_weight0 |" in report


def test_a_side_that_ran_elsewhere_is_read_from_its_file(tmp_path):
    kept = side([2.0, 1.0], a=[1, 2])
    np.savez(str(tmp_path / "npu.npz"), **kept)
    found = parity.compare(kept, parity.read_side(tmp_path / "npu.npz"), tolerance=0)
    assert found["diverges"] is None and found["layers"] == {"a": 0}
    with pytest.raises(parity.ParityError, match="3 x 2 and 2 x 2 steps and variables: they are of different runs"):
        parity.compare(side([1.0, 1.0, 1.0]), kept, tolerance=0)
    np.savez(str(tmp_path / "other.npz"), values=[1])
    with pytest.raises(parity.ParityError, match="other.npz was not written by covpool.devices.parity_side"):
        parity.read_side(tmp_path / "other.npz")
    with pytest.raises(parity.ParityError, match="absent.npz can't be read"):
        parity.read_side(tmp_path / "absent.npz")


def test_a_side_that_can_not_run_says_why(project):
    found = run(project, "npu", "cpu", "--steps", "1")
    assert found.returncode == 1
    lines = without_onednn(found.stderr).splitlines()
    assert lines[0].startswith("parity: npu: device 'npu' is an NPU, and this Python (")
    assert lines[1] == "parity: the side npu could not be run, see above."
