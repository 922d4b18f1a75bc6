"""Comparing two sides: what differs is told, where it begins, and each side runs in a process of its own."""

import json
import subprocess

import numpy as np
import pytest

from covpool.config import ParamsError
from covpool.diagnostics import parity, parity_record, parity_side
from tests.tf.devices.npu_standin import give_npu
from tests.tf.training.training_project import ROOT, Project, without_onednn


def side(losses, work=None, l2=0.0, center=0.0, **layers):
    """A side whose cross entropies are these."""
    about = {
        "side": "cpu",
        "device": {"name": "a processor"},
        "tensorflow": {"version": "1.15", "build": "stock"},
        "work": dict({"steps": len(losses), "train.batch_size": 6}, **(work or {})),
    }
    losses = np.asarray(losses)
    terms = {"loss": losses + l2 + center, "cross_entropy": losses, "l2_loss": l2, "center_loss": center, "accuracy": 1}
    values = np.stack([np.broadcast_to(np.float64(terms[name]), losses.shape) for name in parity_record.VALUES], 1)
    arrays = {"layer/" + name: np.asarray(output, np.float32) for name, output in layers.items()}
    return dict(
        arrays,
        values=values,
        gradients=np.float32([[3.0, 4.0]] * len(losses)),
        variables=np.array(["a", "b"]),
        about=np.array(json.dumps(about)),
    )


def compare(one, other, tolerance=1e-3, layer_tolerance=1e-3):
    return parity.compare(one, other, tolerance, layer_tolerance)


def test_the_first_step_beyond_the_tolerance_is_told():
    found = compare(side([2.0, 1.01, 1.2]), side([2.0, 1.0, 1.0]), tolerance=0.05)
    assert [row["difference"] for row in found["steps"]] == pytest.approx([0, 0.01, 0.2])
    assert found["diverges"] == 3 and not parity.agree(found)
    assert parity.verdict(found).startswith("Beyond the tolerance of 0.05 from step 3 of 3 on: 1.200000 and 1.000000. ")
    close = compare(side([2.0, 1.01]), side([2.0, 1.0]), tolerance=0.05)
    assert close["diverges"] is None and parity.agree(close)
    assert parity.verdict(close).startswith(
        "Within the tolerance of 0.05 in all 2 steps; the largest difference of the loss is 0.01. "
    )


def test_the_decay_of_the_weights_hides_no_difference():
    """Beside an L2 term of thousands 2 % of the cross entropy would be less than any tolerance."""
    found = compare(side([2.0, 2.0], l2=6573.6), side([2.0, 2.04], l2=6573.6))
    assert found["diverges"] == 2
    assert found["steps"][1]["totals"] == pytest.approx([6575.6, 6575.64])
    assert "| 2 | 2.000000 | 2.040000 | 2.0e-02 | 6575.600000 | 6575.640000 |" in "\n".join(parity.report(found))
    # What the pictures decide beside the cross entropy does count.
    assert compare(side([2.0], center=0.5), side([2.0], center=0.6))["diverges"] == 1


def test_a_layer_that_computes_something_else_is_told_though_the_loss_is_the_same():
    first, second = [1.0, 2.0], [3.0, 4.0]
    found = compare(
        side([2.0], images=first, logeig=second, fc_1=second),
        side([2.0], images=first, logeig=[3.0, 4.5], fc_1=[3.0, 4.1]),
    )
    assert found["diverges"] is None and found["layers_beyond"] == ["logeig", "fc_1"] and not parity.agree(found)
    assert parity.verdict(found).endswith(
        "In the first step the outputs of 2 of 3 layers are beyond the tolerance of 0.001, from logeig on: 9.2e-02."
    )
    assert parity.agree(compare(side([2.0], fc_1=second), side([2.0], fc_1=[3.0, 4.1]), layer_tolerance=0.1))


def test_what_is_not_finite_diverges_and_is_written_as_such():
    found = compare(side([2.0, np.nan], a=[1, np.inf]), side([2.0, 1.0], a=[1, 2]), tolerance=1.0)
    assert found["diverges"] == 2 and found["layers"] == {"a": None} and found["layers_beyond"] == ["a"]
    text = "\n".join(parity.report(found))
    assert "| 2 | not finite | 1.000000 | not finite | not finite | 1.000000 |" in text
    assert "| a | not finite |" in text
    json.dumps(found, allow_nan=False)


def test_layers_differ_by_the_root_mean_square_in_the_order_of_the_computation():
    one, other = side([1.0], first=[3.0, 4.0], second=np.zeros(3)), side([1.0], first=[3.0, 4.5], second=np.zeros(3))
    other["gradients"][0] = [3.0, 5.0]
    found = compare(one, other)
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
    with pytest.raises(ParamsError, match=r"device_options in params.yaml \(cpu, gpu, npu\), got 'tpu'"):
        parity_side.side_options(params, "tpu@tf2")


COVARIANCE = {"network.pooling": "covariance", "network.vectorise": "upper"}
#: Keeps few copies of the weights, of which fc_1 has 16 million.
LIGHT = {"train.optimizer": "MOM", "train.moving_average_decay": 0, "device_options.npu.loss_scaling": "fixed"}


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project", COVARIANCE)


def run(project, *arguments):
    return subprocess.run(
        [str(ROOT / "stages" / "tf"), "-m", "covpool.diagnostics.parity"] + list(arguments),
        cwd=str(project.folder),
        env=project.environment,
        capture_output=True,
        text=True,
    )


def test_processor_and_npu_take_the_same_steps(project):
    """The stand-in computes on the processor, and its loss scale is a power of two: all that may differ is rounding."""
    project.change({**COVARIANCE, **LIGHT})
    give_npu(project)
    found = run(project, "cpu", "npu", "--steps", "2", "--learning-rate", "1e-5", "--tolerance", "1e-4")
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.startswith("parity: Within the tolerance of 0.0001 in all 2 steps;")
    told = json.loads((project.folder / "parity/parity.json").read_text())
    assert [each["side"] for each in told["sides"]] == ["cpu", "npu"]
    assert [each["device"]["name"] for each in told["sides"]][1] == "910A"
    assert len({row["one"] for row in told["steps"]}) == 2
    layers = list(told["layers"])
    assert layers[:2] == ["images", "Conv2d_1"] and layers[-5:] == ["bimap", "logeig", "fc_1", "Bottleneck", "Logits"]
    assert all(apart < 1e-3 for apart in list(told["layers"].values()) + list(told["gradients"].values()))
    report = (project.folder / "parity/parity.md").read_text()
    assert "# Parity: cpu beside npu" in report and "| CovPool2/spdpooling1/orth_weight0 |" in report


def test_a_side_that_ran_elsewhere_is_read_from_its_file(tmp_path):
    kept = side([2.0, 1.0], a=[1, 2])
    np.savez(str(tmp_path / "npu.npz"), **kept)
    found = compare(kept, parity_record.read(tmp_path / "npu.npz"), tolerance=0)
    assert found["diverges"] is None and found["layers"] == {"a": 0}


@pytest.mark.parametrize(
    "damage, told",
    [
        (lambda path, kept: path.unlink(), "side.npz does not exist"),
        (lambda path, kept: path.write_bytes(path.read_bytes()[:300]), "side.npz is damaged, or was not written by"),
        (lambda path, kept: path.write_bytes(b""), "side.npz is damaged, or was not written by"),
        (lambda path, kept: np.save(path.open("wb"), np.zeros(3)), "side.npz is damaged, or was not written by"),
        (lambda path, kept: np.savez(str(path), values=[1]), "side.npz was not written by"),
        (lambda path, kept: np.savez(str(path), **dict(kept, about="{")), "side.npz does not say what was computed"),
        (lambda path, kept: np.savez(str(path), **dict(kept, values=kept["values"][:1])), r"is damaged \(values\)"),
        (lambda path, kept: np.savez(str(path), **{**kept, "layer/a": "text"}), r"is damaged \(layer/a\)"),
    ],
)
def test_a_file_that_is_no_side_is_refused_in_a_sentence(tmp_path, damage, told):
    path, kept = tmp_path / "side.npz", side([2.0, 1.0], a=[1, 2])
    np.savez(str(path), **kept)
    damage(path, kept)
    with pytest.raises(parity_record.RecordError, match=told):
        parity_record.read(path)


def test_sides_with_other_work_are_refused_by_name():
    one = side([2.0], a=[1], work={"learning rate": 0.0})
    with pytest.raises(parity_record.RecordError) as told:
        compare(one, side([2.0, 1.0], a=[1, 2], b=[1], work={"learning rate": 0.002, "train.batch_size": 8}))
    assert str(told.value).endswith(
        ": steps: 1 and 2; train.batch_size: 6 and 8; learning rate: 0.0 and 0.002; layers that only one side has: b; "
        "output of a: (1,) and (2,)."
    )
    renamed = dict(one, variables=np.array(["a", "c"]))
    with pytest.raises(parity_record.RecordError, match="variables that only one side has: b, c"):
        compare(one, renamed)


def test_what_a_side_is_given_is_told_by_the_other(project):
    """The same folder, with other parameters, pictures and weights in turn; only the rest must agree."""
    start, params = project.folder / "start", project.params
    start.with_name("start.index").write_bytes(b"weights")

    def work(steps=2, rate=0.0):
        return parity_record.work(project.params, project.folder, start, steps, rate)

    def differing(found):
        assert list(found) == list(before)
        return [name for name in found if found[name] != before[name]]

    before = work()
    project.change({**COVARIANCE, "train.epochs": 9, "train.keep_probability": 0.5, "train.mom.momentum": 0.5})
    assert differing(work()) == []
    project.change({**COVARIANCE, "train.batch_size": 8, "network.normalisation": "none", "spd.ridge": 1e-3})
    assert differing(work(3, 0.1)) == [
        "steps",
        "learning rate",
        "network.normalisation",
        "spd.ridge",
        "train.batch_size",
    ]
    project.params = params
    start.with_name("start.index").write_bytes(b"other weights")
    (project.folder / "data/faces/train.npy").write_bytes(b"other pictures")
    assert differing(work()) == ["weights to start from", "pictures of data/faces"]


def test_two_runs_of_other_parameters_are_not_blamed_on_the_device(project):
    """Other normalisation beside a large decay: from files, as of two machines."""
    side = [
        str(ROOT / "stages" / "tf"),
        "-m",
        "covpool.diagnostics.parity_side",
        "--device",
        "cpu",
        "--start",
        "w/start",
        "--steps",
        "1",
    ]
    for out, changes in (("a.npz", {}), ("b.npz", {"network.normalisation": "none"})):
        project.change({"network.pooling": "average", "train.weight_decay": 0.9, **changes})
        subprocess.run(side + ["--out", out], cwd=str(project.folder), env=project.environment, check=True)
    found = run(project, "a.npz", "b.npz")
    assert found.returncode == 1
    assert without_onednn(found.stderr) == (
        "parity: cpu and cpu did not compute the same thing, so the devices can't be compared: "
        "network.normalisation: per_image and none.\n"
    )
    # As if it had computed the one while it was asked for the other, like a device that leaves an operation out.
    kept, other = (dict(np.load(str(project.folder / name))) for name in ("a.npz", "b.npz"))
    np.savez(str(project.folder / "b.npz"), **dict(other, about=kept["about"]))
    found = run(project, "a.npz", "b.npz")
    assert found.returncode == 1 and "Beyond the tolerance of 0.001 from step 1 of 1 on" in found.stdout
    assert "layers are beyond the tolerance of 0.001, from images on" in found.stdout
    totals = [each["values"][0, 0] for each in (kept, other)]
    assert abs(totals[0] - totals[1]) < 1e-3 * totals[1]


def test_a_side_that_can_not_run_says_why(project):
    found = run(project, "npu", "cpu", "--steps", "1")
    assert found.returncode == 1
    lines = without_onednn(found.stderr).splitlines()
    assert lines[0].startswith("parity: npu: device 'npu' is an NPU, but this Python (")
    assert lines[1] == "parity: the side npu failed, see above."
