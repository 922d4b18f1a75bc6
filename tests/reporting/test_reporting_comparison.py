"""Figures, ratios and tables: worked out again from the artifacts."""

import json

import pytest

from covpool.config import NAMED_SCHEDULES
from covpool.pipeline import artifacts
from covpool.reporting import build_report
from tests.reporting.helpers import compared, markdown, report, table

pytestmark = pytest.mark.usefixtures("no_page")


def test_figures_are_those_of_history_times_and_predictions(project):
    project.add_run("cpu")
    entry = report(project, ["cpu"])[0]["cpu"]
    last = table(project, "runs/cpu/history.csv")[-1]
    seconds = [float(row["seconds"]) for row in table(project, "runs/cpu/times.csv") if row["epoch"] == last["epoch"]]
    predictions = table(project, "evaluation/cpu/val/predictions.csv")
    hits = sum(row["actual"] == row["predicted"] for row in predictions)
    figures = entry["figures"]
    assert figures["loss"] == float(last["loss"])
    assert figures["cross_entropy"] == float(last["cross_entropy"])
    assert figures["seconds_per_step"] == pytest.approx(sum(seconds) / len(seconds))
    assert figures["images_per_second"] == pytest.approx(32 * len(seconds) / sum(seconds))
    assert entry["evaluations"]["val"]["accuracy"] == pytest.approx(hits / len(predictions))


def test_ratios_are_against_the_gpu_wherever_it_stands(project):
    records = {name: project.add_run(name) for name in ("npu", "cpu", "gpu")}
    entries, content = report(project, ["npu", "cpu", "gpu"])
    assert content["reference"] == "gpu"
    assert entries["gpu"]["comparable"] is None and entries["gpu"]["verdict"] is None
    for name in ("npu", "cpu"):
        against = entries[name]["against_reference"]
        loss, step = (
            [records[run][section][key] for run in (name, "gpu")]
            for section, key in (("loss", "total"), ("speed", "seconds_per_step"))
        )
        assert against["loss_difference"] == pytest.approx(loss[0] / loss[1] - 1)
        assert against["step_ratio"] == pytest.approx(step[0] / step[1])
        assert against["energy_ratio"] is None  # only the GPU told its energy


def measured(source, joules, covered=1.0, device_bytes=None):
    """A change of a record: what a meter has told."""

    def change(record):
        record["energy"] = {"joules": joules, "seconds": 400.0, "covered": covered, "source": source}
        record["memory"]["device_peak_bytes"] = device_bytes

    return change


def test_energy_and_memory_of_the_device_are_compared(project):
    project.add_run("npu", change=measured("the card by npu-smi", 9200.0, 0.97, 3 * 2**30))
    project.add_run("gpu", change=measured("the card by nvidia-smi", 18400.0, 1.0, 6 * 2**30))
    entry = report(project, ["npu", "gpu"])[0]["npu"]
    assert entry["against_reference"]["energy_ratio"] == entry["against_reference"]["device_memory_ratio"] == 0.5
    assert entry["figures"]["joules_per_image"] == pytest.approx(9200 / (120 * 32))
    assert entry["remarks"] == ["its energy is that of the card by npu-smi, at GPU that of the card by nvidia-smi"]
    text = markdown(project)
    dash = "\N{EN DASH}"
    assert "| Energy of the training | 9.2 kJ | 18.4 kJ |" in text
    assert f"| {dash} per picture | 2.40 J | 4.79 J |" in text
    assert "| Peak memory in use on the device | 3.00 GiB | 6.00 GiB |" in text
    assert "| Peak memory of the device, ratio | 0.500 \N{MULTIPLICATION SIGN} |" in text
    row = table(project, "reports/comparison.csv")[2]
    assert (row["device_peak_bytes"], row["energy_ratio"], row["device_memory_ratio"]) == (str(3 * 2**30), "0.5", "0.5")
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert (metrics["npu"]["device_peak_gib"], metrics["npu"]["image_j"]) == (3, pytest.approx(2.39583))


def test_energy_of_one_source_needs_no_remark(project):
    for name in ("gpu", "gpu_2"):
        project.add_run(name, "gpu", change=measured("the card by nvidia-smi", 100.0))
    assert compared(project, ["gpu", "gpu_2"])["gpu_2"]["remarks"] == []


def test_energy_that_was_measured_in_part_is_told_and_compared_with_nothing(project):
    project.add_run("npu", change=measured("the card by npu-smi", 9200.0, 0.6))
    project.add_run("gpu", change=measured("the card by npu-smi", 18400.0))
    entry = report(project, ["npu", "gpu"])[0]["npu"]
    assert entry["figures"]["joules"] is entry["figures"]["joules_per_image"] is None
    assert entry["against_reference"]["energy_ratio"] is None
    assert entry["notes"] == ["energy was measured for only 60 % of the training (9.2 kJ); it is left out"]
    assert entry["notes"][0] in markdown(project)


def test_energy_that_nobody_told_is_no_energy(project):
    project.add_run("cpu", change=measured(None, None, 0.0))
    entry = compared(project, ["cpu"])["cpu"]
    assert entry["figures"]["joules"] is None and entry["notes"] == []


def test_a_score_says_of_which_pictures_and_weights_it_is(tmp_path, make_project):
    project = make_project(tmp_path, counts=(("train", 2), ("val", 3), ("test", 2)))
    project.add_run("gpu")
    project.add_run("npu")
    for split in ("val", "test"):
        scores = project.root / f"evaluation/npu/{split}/scores.json"
        scores.write_text(json.dumps({**json.loads(scores.read_text()), "checkpoint": "last"}))
    project.reseal("npu")
    entries = report(project, ["gpu", "npu"])[0]
    assert list(entries["gpu"]["evaluations"]) == ["test", "val"]
    assert entries["npu"]["remarks"] == [
        "scored on test with the last checkpoint and val with the last checkpoint here, "
        "on test with the best checkpoint and val with the best checkpoint at GPU"
    ]
    roles = [entries["gpu"]["evaluations"][split]["role"] for split in ("test", "val")]
    assert roles == [
        "people unseen in training; had no part in choosing the checkpoint",
        "people unseen in training; chose the checkpoint",
    ]
    assert entries["npu"]["evaluations"]["val"]["role"] == "people unseen in training"
    text = markdown(project)
    assert (
        "| Scored on test | 14 pictures, best checkpoint (epoch 11) | 14 pictures, last checkpoint (epoch 11) |" in text
    )
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    for run, checkpoint in (("gpu", "best"), ("npu", "last")):
        for split in ("val", "test"):
            scores = json.loads((project.root / f"evaluation/{run}/{split}/scores.json").read_text())
            shown = metrics[run][f"{split}_{checkpoint}"]["acc_pct"]
            assert shown == pytest.approx(100 * scores["accuracy"], rel=1e-5)
            row = next(row for row in table(project, "reports/comparison.csv") if row["name"] == run)
            assert float(row[f"accuracy_{split}"]) == scores["accuracy"] and row["checkpoint"] == checkpoint


def test_a_missing_run_leaves_a_table_without_it(project):
    project.add_run("npu")
    entries, content = report(project, ["npu", "gpu"])
    assert entries["gpu"] == {
        "name": "gpu",
        "label": "gpu",
        "title": "gpu",
        "status": "missing",
        "reason": "runs/gpu/run.json does not exist",
    }
    text = markdown(project)
    assert "Run gpu is missing" in text
    assert "| covpoolnet2, covariance pooling | 12 | 1.1900 | \N{EN DASH} |" in text
    assert content["reference"] == "npu"


def test_runs_that_are_not_named_are_not_read(project):
    project.add_run("cpu")
    project.add_run("gpu")
    assert set(report(project, ["cpu"])[0]) == {"cpu"}
    assert "H100" not in markdown(project)


def test_the_published_tables_keep_the_port_s_form(project):
    for name in ("npu", "gpu"):
        project.add_run(name)
    report(project, ["npu", "gpu"])
    lines = markdown(project).splitlines()
    start = lines.index("| Model | Epochs | NPU loss | GPU loss |")
    assert lines[start + 2] == "| CovPoolFER (published) | 95 | 0.6406 | 0.7004 |"
    assert lines[start + 3] == "| covpoolnet2, covariance pooling | 12 | 1.1900 | 1.2500 |"
    start = lines.index("| Model | Epochs | NPU Seconds per Step | GPU Seconds per Step |")
    assert lines[start + 2] == "| CovPoolFER (published) | 95 | 2.902 | 3.220 |"
    assert "mean of the loss over the last epoch" in "\n".join(lines)


def test_a_cpu_never_passes_for_an_npu(project):
    """A label is only a label: what it ran on is the kind in the record."""
    project.add_run("npu", "cpu")
    project.add_run("gpu")
    entry = report(project, ["npu", "gpu"])[0]["npu"]
    assert entry["title"] == "CPU (npu)" and entry["kind"] == "cpu"
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert set(metrics) == {"npu (cpu)", "gpu", "cpu_gpu_loss_diff_pct", "cpu_gpu_step_ratio"}
    assert {row["device"] for row in table(project, "reports/curves.csv")} == {"npu (cpu)", "gpu"}
    line = next(row for row in table(project, "reports/comparison.csv") if row["name"] == "npu")
    assert line["kind"] == "cpu"
    text = markdown(project)
    # Its loss stands under CPU.
    assert "| covpoolnet2, covariance pooling | 12 | \N{EN DASH} | 1.2500 | 1.1900 |" in text


def test_two_runs_of_a_kind_have_a_column_each(project):
    project.add_run("gpu")
    project.add_run("gpu_tf2", "gpu", loss=1.27)
    report(project, ["gpu", "gpu_tf2"])
    text = markdown(project)
    assert "| Model | Epochs | NPU loss | GPU loss | GPU (gpu_tf2) loss |" in text
    assert "| covpoolnet2, covariance pooling | 12 | \N{EN DASH} | 1.2500 | 1.2700 |" in text


def test_published_figures_differ_by_name(project):
    project.add_run("cpu")
    entry = compared(project, ["cpu"])["cpu"]
    assert [item["what"] for item in entry["differs_from_published"]] == [
        "data",
        "batch size",
        "epochs",
        "steps per epoch",
        "batch norm decay",
        "input normalisation",
        "share kept by dropout",
        "weight decay",
        "center loss factor",
        "ADAM's epsilon",
        "learning rate",
        "augmentation",
        "device",
    ]


def test_published_conditions_met_are_not_called_different(project):
    def published(record):
        record["data"]["kind"] = "sfew_100"
        record["progress"].update(epochs=95, epoch_size=95, steps=9025, batch_size=128)
        record["parameters"]["network"].update(normalisation="none", batch_norm_decay=0.995)
        record["parameters"]["train"].update(
            epochs=95,
            weight_decay=0.05,
            center_loss_factor=0.01,
            keep_probability=1.0,
            adam={"epsilon": 0.1},
            random_crop=False,
            random_flip=False,
            schedule=[list(pair) for pair in NAMED_SCHEDULES["model1"]],
        )

    project.add_run("npu", change=published)
    entry = compared(project, ["npu"])["npu"]
    assert [item["what"] for item in entry["differs_from_published"]] == ["data"]
    assert "these may be other pictures" in entry["differs_from_published"][0]["here"]


def test_headline_metrics_carry_their_unit(project):
    records = {name: project.add_run(name) for name in ("npu", "gpu")}
    report(project, ["npu", "gpu"])
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    gpu, record = metrics["gpu"], records["gpu"]
    assert gpu["step_s"] == pytest.approx(record["speed"]["seconds_per_step"], rel=1e-5)
    assert gpu["peak_gib"] == pytest.approx(record["memory"]["peak_bytes"] / 2**30, rel=1e-5)
    assert gpu["energy_kj"] == pytest.approx(18.4)
    assert metrics["npu_gpu_loss_diff_pct"] == pytest.approx(100 * (1.19 / 1.25 - 1), rel=1e-5)
    assert "energy_kj" not in metrics["npu"]


def test_two_npus_against_a_gpu_have_a_headline_each(project):
    for name, kind, loss in (("npu", "npu", 1.5), ("npu32", "npu", 1.0), ("gpu", "gpu", 1.25), ("cpu", "cpu", 1.25)):
        project.add_run(name, kind, loss=loss)
    report(project, ["npu", "npu32", "gpu", "cpu"])
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    found = {name: value for name, value in metrics.items() if name.endswith("loss_diff_pct")}
    assert found == {"npu_gpu_loss_diff_pct": 20, "npu32_gpu_loss_diff_pct": -20, "cpu_gpu_loss_diff_pct": 0}
    assert {"npu_gpu_step_ratio", "npu32_gpu_step_ratio", "cpu_gpu_step_ratio"} <= set(metrics)


def test_runs_of_one_kind_are_compared_by_name_in_the_headlines(project):
    project.add_run("gpu", loss=1.25)
    project.add_run("gpu_tf2", "gpu", loss=1.5)
    report(project, ["gpu", "gpu_tf2"])
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert metrics["gpu_tf2_gpu_loss_diff_pct"] == pytest.approx(20)


def test_a_device_loop_counts_once_for_each_of_its_steps(project):
    project.add_run("npu")
    rows = [
        {"epoch": 1, "step": 1, "steps": 1, "seconds": 9.0, "warm_up": "true"},
        {"epoch": 1, "step": 6, "steps": 5, "seconds": 0.1, "warm_up": "false"},
        {"epoch": 2, "step": 7, "steps": 1, "seconds": 0.7, "warm_up": "false"},
    ]
    project.write_csv("runs/npu/times.csv", artifacts.TIMES_COLUMNS, rows)
    project.reseal("npu")
    report(project, ["npu"])
    (row,) = table(project, "reports/step_times.csv")
    assert row["steps"] == "6"
    assert float(row["mean"]) == pytest.approx((5 * 0.1 + 0.7) / 6)
    assert float(row["last_epoch_mean"]) == pytest.approx(0.7)
    assert float(row["p50"]) == pytest.approx(0.1)


@pytest.mark.parametrize("devices", [[], ["cpu", "cpu"]])
def test_devices_must_be_named_once(project, devices):
    with pytest.raises(ValueError, match="devices must name"):
        build_report(project.root, devices=devices, loss_tolerance=0.1)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_must_be_a_share(project, tolerance):
    with pytest.raises(ValueError, match="loss_tolerance"):
        build_report(project.root, devices=["cpu"], loss_tolerance=tolerance)
