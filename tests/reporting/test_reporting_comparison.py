"""The comparison: its numbers worked out again from the artifacts, its verdicts, and what it refuses to compare."""

import csv
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covpool.config import NAMED_SCHEDULES
from covpool.pipeline import artifacts
from covpool.reporting import build_report, comparison, page
from covpool.reporting.runs import READ, Run, read_run

POSITIVE = st.floats(1e-6, 1e6)


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """The page takes most of the time, and has tests of its own."""
    monkeypatch.setattr(page, "render", lambda *_: "")


def report(project, devices, tolerance=0.1):
    content = build_report(project.root, devices=devices, loss_tolerance=tolerance)
    written = json.loads((project.root / "reports" / "comparison.json").read_text(encoding="utf-8"))
    assert written == content
    return {entry["name"]: entry for entry in content["runs"]}, content


def compared(project, devices, tolerance=0.1):
    content = comparison.compare([read_run(project.root, name) for name in devices], tolerance)
    return {entry["name"]: entry for entry in content["runs"]}


def table(project, name):
    with open(project.root / name, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


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
    assert figures["accuracy"] == pytest.approx(hits / len(predictions))


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
    text = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    dash = "\N{EN DASH}"
    assert f"| Energy of the training | {dash} | {dash} | 9.2 kJ | 18.4 kJ |" in text
    assert f"| {dash} per picture | {dash} | {dash} | 2.40 J | 4.79 J |" in text
    assert f"| Peak memory in use on the device | {dash} | {dash} | 3.00 GiB | 6.00 GiB |" in text
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
    assert entry["notes"] == ["energy was measured in 60 % of the training, 9.2 kJ, and is left out"]
    assert entry["notes"][0] in (project.root / "reports/comparison.md").read_text(encoding="utf-8")


def test_energy_that_nobody_told_is_no_energy(project):
    project.add_run("cpu", change=measured(None, None, 0.0))
    entry = compared(project, ["cpu"])["cpu"]
    assert entry["figures"]["joules"] is None and entry["notes"] == []


def test_verdict_follows_the_tolerance(project):
    project.add_run("npu", loss=1.19)
    project.add_run("gpu", loss=1.25)
    assert compared(project, ["npu", "gpu"], 0.05)["npu"]["verdict"]["result"] == "pass"  # 4.8 % lower
    strict = compared(project, ["npu", "gpu"], 0.04)["npu"]["verdict"]
    assert strict["result"] == "fail"
    assert strict["text"].startswith("NPU loss is within 4 % of GPU: fail (1.1900 against 1.2500, \N{MINUS SIGN}4.80 %")


def test_a_diverged_run_gets_no_verdict(project):
    project.add_run("npu", change=lambda record: record["loss"].update(total=None))
    project.add_run("gpu")
    verdict = compared(project, ["npu", "gpu"])["npu"]["verdict"]
    assert verdict["result"] == "undecided" and "NPU ended with no finite loss" in verdict["text"]


@given(value=POSITIVE, reference=POSITIVE, tolerance=st.floats(0, 2))
def test_within_is_the_distance_in_shares_of_the_reference(value, reference, tolerance):
    share = abs(value - reference) / reference
    if abs(share - tolerance) > 1e-9 * (1 + share):
        assert comparison.within(value, reference, tolerance) == (share < tolerance)


@given(reference=POSITIVE, tolerance=st.floats(0, 0.99))
def test_the_ends_of_the_tolerance_pass(reference, tolerance):
    for side in (1, -1):
        assert comparison.within(reference + side * tolerance * reference, reference, tolerance)


@given(value=POSITIVE, reference=POSITIVE, scale=st.floats(1e-3, 1e3))
def test_differences_and_ratios_do_not_depend_on_the_unit(value, reference, scale):
    for figure in (comparison.ratio, comparison.relative_difference):
        first, second = figure(value, reference), figure(value * scale, reference * scale)
        assert first == pytest.approx(second, rel=1e-9, abs=1e-9)
    assert comparison.ratio(value, reference) - 1 == pytest.approx(
        comparison.relative_difference(value, reference), rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("pair", [(None, 1.0), (1.0, None), (1.0, 0.0), (1e308, 1e-300)])
def test_no_ratio_is_better_than_a_wrong_one(pair):
    assert comparison.ratio(*pair) is None
    assert comparison.relative_difference(*pair) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record["data"].update(hash="0" * 64), "other data: hash 000000000000 here"),
        (lambda record: record["progress"].update(steps=119), "steps: 119 here, 120 at GPU"),
        (lambda record: record["progress"].update(batch_size=64), "batch size: 64 here, 32 at GPU"),
        (lambda record: record["parameters"]["train"]["adam"].update(epsilon=0.1), "train.adam.epsilon: 0.1 here"),
        (
            lambda record: record["parameters"]["train"].pop("random_flip"),
            "train.random_flip: nothing here, True at GPU",
        ),
    ],
)
def test_other_work_is_listed_but_not_compared(project, change, reason):
    project.add_run("npu", change=change)
    project.add_run("gpu")
    entry = report(project, ["npu", "gpu"])[0]["npu"]
    assert entry["comparable"] is False
    assert entry["against_reference"] is None and entry["verdict"] is None
    assert any(reason in found for found in entry["differences"]), entry["differences"]
    assert entry["figures"]["loss"] == pytest.approx(1.19)
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert not [name for name in metrics if name.startswith("npu_gpu")]
    assert reason in (project.root / "reports/comparison.md").read_text(encoding="utf-8")


def test_runs_that_pool_differently_are_two_networks(project):
    def average(record):
        record["parameters"]["network"]["pooling"] = "average"

    project.add_run("gpu")
    project.add_run("gpu_mean", "gpu", change=average)
    entry = report(project, ["gpu", "gpu_mean"])[0]["gpu_mean"]
    assert entry["comparable"] is False
    assert entry["differences"] == ["parameter network.pooling: average here, covariance at GPU"]
    text = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    assert "| covpoolnet2, covariance pooling (1) | 12 |" in text
    assert "| covpoolnet2, average pooling (2) | 12 |" in text
    assert "| pooling | covariance | the same | average |" in text
    assert [row["pooling"] for row in table(project, "reports/comparison.csv")][2:] == ["covariance", "average"]


def test_other_start_weights_are_other_work_wherever_they_lie(project):
    def start(path, content):
        def change(record):
            record["parameters"]["train"]["pretrained_model"] = path
            record["data"]["pretrained"] = content

        return change

    project.add_run("gpu", change=start("/first/model", "a" * 64))
    project.add_run("npu", change=start("/second/model", "a" * 64))
    project.add_run("cpu", change=start("/first/model", "b" * 64))
    entries = compared(project, ["gpu", "npu", "cpu"])
    assert entries["npu"]["comparable"] is True
    assert entries["cpu"]["differences"] == [
        "starts from the weights bbbbbbbbbbbb here, from the weights aaaaaaaaaaaa at GPU"
    ]


def test_what_changes_no_figure_but_the_time_is_remarked_upon(project):
    project.add_run("gpu")
    project.add_run("npu", change=lambda record: record["parameters"]["train"].update(nrof_preprocess_threads=8))
    project.add_run("gpu_2", "gpu", change=lambda record: record["device"].update(threads=None, precision="mixed"))
    entries = compared(project, ["gpu", "npu", "gpu_2"])
    assert entries["npu"]["comparable"] and entries["gpu_2"]["comparable"]
    assert entries["npu"]["remarks"] == ["parameter train.nrof_preprocess_threads: 8 here, 4 at GPU"]
    assert entries["gpu_2"]["remarks"] == [
        "device precision mixed here, nothing at GPU",
        "device threads nothing here, 2 at GPU",
    ]


SCALES = {"none": lambda workers: 1, "linear": lambda workers: workers, "sqrt": lambda workers: workers**0.5}


def team(workers, batch, rate, scale="none", told=True):
    """A change of a record: so many workers of this batch, with this rate of one, scaled in this way.

    told: the record says which rates were applied, as those of today do.
    """

    def change(record):
        record["device"]["count"] = workers
        record["progress"]["batch_size"] = workers * batch
        record["parameters"]["train"].update(
            batch_size=batch, schedule=[[0, rate], [8, rate / 2]], scale_learning_rate=scale
        )
        if told:
            applied = SCALES[scale](workers) * rate
            record["progress"]["learning_rates"] = [[0, applied], [8, applied / 2]]

    return change


def test_workers_that_share_a_batch_do_the_work_of_one_that_has_it(project):
    project.add_run("gpu", change=team(1, 128, 0.001))
    project.add_run("gpu_2", "gpu", change=team(2, 64, 0.0005, "linear"))
    project.add_run("npu", change=team(4, 32, 0.001))
    entries = report(project, ["gpu", "gpu_2", "npu"])[0]
    for name, many, batch in (("gpu_2", 2, 64), ("npu", 4, 32)):
        assert entries[name]["comparable"] is True and entries[name]["verdict"]
        assert entries[name]["remarks"] == [
            f"{many} workers of batch {batch} here, 1 worker of batch 128 at GPU: each normalises by the statistics of "
            "its own batch"
        ]
    assert entries["gpu_2"]["settings"]["learning_rate"] == (
        "0.0005 from epoch 0, 0.00025 from epoch 8, scaled (linear) for 2 workers"
    )
    assert entries["gpu"]["work"] == entries["gpu_2"]["work"] == entries["npu"]["work"] == 1


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (team(2, 128, 0.001), "batch size: 256 here, 128 at GPU"),
        (team(2, 64, 0.001, "linear"), "learning rate from epoch 0: 0.002 here, 0.001 at GPU"),
        (team(2, 64, 0.001, "linear", told=False), "learning rate: scaled for 2 workers here, for 1 at GPU"),
    ],
)
def test_another_batch_or_rate_in_all_is_other_work(project, change, difference):
    project.add_run("gpu", change=team(1, 128, 0.001))
    project.add_run("npu", change=change)
    assert difference in compared(project, ["gpu", "npu"])["npu"]["differences"]


def test_a_rate_that_parts_late_is_other_work(project):
    def later(record):
        team(1, 128, 0.001)(record)
        record["progress"]["learning_rates"].append([10, 0.0001])

    project.add_run("gpu", change=team(1, 128, 0.001))
    project.add_run("npu", change=later)
    assert compared(project, ["gpu", "npu"])["npu"]["differences"] == [
        "learning rate from epoch 10: 0.0001 here, 0.0005 at GPU"
    ]


def test_rates_that_no_record_tells_go_by_their_parameters(project):
    project.add_run("gpu", change=team(1, 128, 0.001, told=False))
    project.add_run("npu", change=team(2, 64, 0.001, told=False))
    project.add_run("cpu", change=team(1, 128, 0.002, told=False))
    entries = compared(project, ["gpu", "npu", "cpu"])
    assert entries["npu"]["comparable"] is True
    assert [each.split(":")[0] for each in entries["cpu"]["differences"]] == ["parameter train.schedule"]


WORKERS, RATE, SCALE = st.sampled_from([1, 2, 3, 4, 8]), st.sampled_from([0.001, 0.0003]), st.sampled_from(list(SCALES))


@given(WORKERS, WORKERS, SCALE, SCALE, RATE, RATE, st.booleans())
def test_work_is_compared_by_batch_and_rate_of_all_workers(here, there, scale, other_scale, rate, other_rate, share):
    """The same total as the reference's, dealt out among other workers, is the same work, and nothing else is."""

    def run(name, change):
        record = {"kind": "gpu", "data": {}, "progress": {}, "device": {}, "parameters": {"train": {}}}
        change(record)
        return Run(name, READ, record=record)

    whole = 48  # the workers' least common multiple, doubled
    ours = run("a", team(here, whole // here, rate / SCALES[scale](here) if share else rate, scale))
    theirs = run("b", team(there, whole // there, other_rate / SCALES[other_scale](there), other_scale))
    applied = rate if share else rate * SCALES[scale](here)
    same = abs(applied - other_rate) < 1e-9
    assert (comparison.differences(ours, theirs) == []) is same
    assert (comparison.differences(theirs, ours) == []) is same
    assert any("of batch" in text for text in comparison.remarks(ours, theirs)) is (here != there)


def test_losses_of_a_device_loop_are_told_from_those_of_every_step(project):
    project.add_run("gpu")
    project.add_run("npu", change=lambda record: record["progress"].update(steps_per_loss=5))
    entry = compared(project, ["gpu", "npu"])["npu"]
    assert entry["comparable"] is True
    assert entry["remarks"] == ["its losses are those of one step in 5, at GPU those of every step"]


def told(**options):
    return lambda record: record["device"].update(options=dict({"parameter_map": {}}, **options))


TAKES_FLOAT16 = "allow_fp32_to_fp16 (float16 where the chip has no float32 operation)"


@pytest.mark.parametrize(
    ("change", "arithmetic"),
    [
        (
            told(
                precision_mode="allow_mix_precision", loss_scaling="dynamic", loss_scale=32768.0, iterations_per_loop=5
            ),
            "precision_mode allow_mix_precision, loss_scaling dynamic from 32768, iterations_per_loop 5",
        ),
        (
            told(precision_mode="force_fp32", loss_scaling="off", loss_scale=32768.0, iterations_per_loop=1),
            "precision_mode force_fp32, loss_scaling off, iterations_per_loop 1",
        ),
        (told(precision_mode="allow_fp32_to_fp16"), f"precision_mode {TAKES_FLOAT16}"),
        (told(precision_mode=""), f"no precision_mode, so by the adapter's default, {TAKES_FLOAT16}"),
        (
            told(
                precision_mode="",
                loss_scaling="fixed",
                loss_scale=512.0,
                parameter_map={"precision_mode_v2": "mixed_float16"},
            ),
            "precision_mode_v2 mixed_float16, loss_scaling fixed at 512",
        ),
        (lambda record: None, "a precision that its record does not tell"),
    ],
)
@pytest.mark.parametrize("other", ["gpu", "cpu", None])
def test_what_an_npu_computed_in_is_told_beside_any_other(project, change, arithmetic, other):
    project.add_run("npu", change=change)
    names = ["npu", *([project.add_run(other)["name"]] if other else [])]
    entries = report(project, names)[0]
    assert entries["npu"]["arithmetic"] == arithmetic and len(entries) == len(names)
    text = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    assert f"- NPU: computed with {arithmetic}.\n" in text
    assert f" | {arithmetic} |" in next(line for line in text.splitlines() if line.startswith("| Arithmetic | "))
    assert table(project, "reports/comparison.csv")[2]["arithmetic"] == arithmetic


@pytest.mark.parametrize(
    ("tf32", "arithmetic"), [(True, "float32 with products in TF32"), (False, "float32, TF32 off")]
)
def test_whether_a_gpu_took_tf32_is_told_where_it_is_known(project, tf32, arithmetic):
    project.add_run("npu")
    project.add_run("gpu", change=lambda record: record["device"].update(tf32=tf32))
    project.add_run("gpu_before", "gpu")
    entries = report(project, ["npu", "gpu", "gpu_before"])[0]
    assert (entries["gpu"]["arithmetic"], entries["gpu_before"]["arithmetic"]) == (arithmetic, None)
    text = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    assert f"- GPU: computed with {arithmetic}.\n" in text and "GPU (gpu_before): computed" not in text


def test_a_score_says_of_which_pictures_and_weights_it_is(project):
    project.add_run("gpu")
    project.add_run("npu")
    scores = project.root / "evaluation/npu/val/scores.json"
    scores.write_text(json.dumps({**json.loads(scores.read_text()), "split": "test", "checkpoint": "last"}))
    project.reseal("npu")
    entry = report(project, ["gpu", "npu"])[0]["npu"]
    assert entry["remarks"] == ["scored on test by the last checkpoint here, on val by the best checkpoint at GPU"]
    text = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    assert "val by the best checkpoint (epoch 11), 35 pictures | test by the last checkpoint (epoch 11)" in text
    metrics = json.loads((project.root / "reports/metrics.json").read_text())
    assert metrics["gpu"]["val_best"]["acc_pct"] == pytest.approx(
        100 * json.loads((project.root / "evaluation/gpu/val/scores.json").read_text())["accuracy"], rel=1e-5
    )
    assert "test_last" in metrics["npu"] and "acc_pct" not in metrics["npu"]
    rows = table(project, "reports/comparison.csv")
    assert [(row["split"], row["checkpoint"]) for row in rows[2:]] == [("val", "best"), ("test", "last")]


def test_other_code_is_remarked_upon(project):
    project.add_run("npu", change=lambda record: record["code"].update(hash="6" * 64))
    project.add_run("gpu", change=lambda record: record["tensorflow"].update(build="stock"))
    entry = compared(project, ["npu", "gpu"])["npu"]
    assert entry["comparable"] is True
    assert entry["remarks"] == [
        "TensorFlow build intel here, stock at GPU",
        "its code is not that of GPU (the hashes of the code differ)",
    ]


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("runs/npu/run.json", '"total": 1.19', '"total": 0.19', "edited after the training wrote it"),
        ("runs/npu/run.json", '"kind": "npu"', '"kind": "gpu"', "edited after the training wrote it"),
        ("runs/npu/run.json", '"content_hash"', '"hash"', "no content hash"),
        ("runs/npu/history.csv", ",1.19,1.19,", ",0.19,1.19,", "history.csv changed after the training"),
        ("runs/npu/run.json", "{", "", "is no JSON"),
    ],
)
def test_an_edited_record_is_refused(project, file, old, new, reason):
    project.add_run("npu")
    project.add_run("gpu")
    edit(project.root / file, old, new)
    entry = report(project, ["npu", "gpu"])[0]["npu"]
    assert entry["status"] == "refused" and reason in entry["reason"]
    assert "figures" not in entry
    text = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    assert reason in text and "1.19" not in text and "0.19" not in text
    assert {row["device"] for row in table(project, "reports/curves.csv")} == {"gpu"}


def test_a_history_that_is_not_that_of_the_record_is_refused(project):
    project.add_run("npu")
    edit(project.root / "runs/npu/history.csv", ",1.19,1.19,", ",0.19,1.19,")
    project.reseal("npu")
    run = read_run(project.root, "npu")
    assert not run.usable and "disagree about the loss" in run.reason


@pytest.mark.parametrize("file", ["history.csv", "times.csv"])
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_byte_in_a_table_of_a_run_is_noticed(project, file, data):
    project.add_run("npu")
    path = project.root / "runs/npu" / file
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = (content[place] + data.draw(st.integers(1, 255))) % 256
    path.write_bytes(content)
    run = read_run(project.root, "npu")
    assert not run.usable and f"{file} changed after the training" in run.reason


@pytest.mark.parametrize("key", ["macro_f1", "mean_class_accuracy", "cross_entropy", "epoch", "split", "checkpoint"])
def test_any_other_score_is_noticed(project, key):
    project.add_run("npu")
    path = project.root / "evaluation/npu/val/scores.json"
    content = json.loads(path.read_text())
    other = {"epoch": 1, "split": "test", "checkpoint": "last"}.get(key, 0.999)
    assert content[key] != other
    path.write_text(json.dumps({**content, key: other}))
    assert "scores.json was edited after the evaluation" in evaluation_refused(project)


def test_another_answer_in_the_predictions_is_noticed(project):
    project.add_run("npu")
    path = project.root / "evaluation/npu/val/predictions.csv"
    rows = artifacts.read_csv(path)
    rows[0].update(predicted=rows[0]["actual"], confidence="1.0")
    project.write_csv("evaluation/npu/val/predictions.csv", artifacts.predictions_columns(project.classes), rows)
    assert "predictions.csv changed after it" in evaluation_refused(project)


def evaluation_refused(project):
    """The reason why a run is reported without its evaluation."""
    entry = report(project, ["npu"])[0]["npu"]
    assert entry["status"] == READ and entry["figures"]["macro_f1"] is None
    (note,) = entry["notes"]
    assert note.startswith("evaluation refused: ")
    return note


def test_files_of_before_there_were_hashes_are_read_and_said_to_be(project):
    project.add_run("npu", change=lambda record: record.pop("files"))
    path = project.root / "evaluation/npu/val/scores.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: content[key] for key in content if key not in ("files", "content_hash")}))
    entry = report(project, ["npu"])[0]["npu"]
    assert entry["figures"]["macro_f1"] == content["macro_f1"]
    assert entry["notes"] == [
        "its record has no hashes of history.csv and times.csv, so an edit of these can't be told",
        "its evaluation has no hash of its scores and predictions, so an edit of these can't be told",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.update(name="gpu"), "record of the run 'gpu', not of 'npu'"),
        (lambda record: record.update(kind="tpu"), "kind 'tpu'"),
        (lambda record: record.update(format=2), "format 2"),
        (lambda record: record.pop("speed"), "lacks speed"),
        (lambda record: record["progress"].pop("steps"), "lacks progress.steps"),
        (lambda record: record["loss"].update(total="low"), "no number at loss.total"),
    ],
)
def test_a_record_that_is_not_this_run_s_is_refused(project, change, reason):
    project.add_run("npu", change=change)
    run = read_run(project.root, "npu")
    assert not run.usable and reason in run.reason


def test_scores_that_the_confusion_table_does_not_bear_out_are_refused(project):
    project.add_run("cpu")
    scores = project.root / "evaluation/cpu/val/scores.json"
    content = json.loads(scores.read_text())
    scores.write_text(json.dumps({**content, "accuracy": 0.99}))
    project.reseal("cpu")
    run = read_run(project.root, "cpu")
    assert run.usable and run.evaluation is None
    assert any("scores.json says accuracy 0.99" in note for note in run.notes)
    assert report(project, ["cpu"])[0]["cpu"]["figures"]["accuracy"] is None


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
    text = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    assert "Run gpu is missing" in text
    assert "| covpoolnet2, covariance pooling | 12 | 1.1900 | \N{EN DASH} |" in text
    assert content["reference"] == "npu"


def test_runs_that_are_not_named_are_not_read(project):
    project.add_run("cpu")
    project.add_run("gpu")
    assert set(report(project, ["cpu"])[0]) == {"cpu"}
    assert "H100" not in (project.root / "reports/comparison.md").read_text(encoding="utf-8")


def test_the_published_tables_keep_the_port_s_form(project):
    for name in ("npu", "gpu"):
        project.add_run(name)
    report(project, ["npu", "gpu"])
    lines = (project.root / "reports/comparison.md").read_text(encoding="utf-8").splitlines()
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
    text = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    # Its loss stands under CPU.
    assert "| covpoolnet2, covariance pooling | 12 | \N{EN DASH} | 1.2500 | 1.1900 |" in text


def test_two_runs_of_a_kind_have_a_column_each(project):
    project.add_run("gpu")
    project.add_run("gpu_tf2", "gpu", loss=1.27)
    report(project, ["gpu", "gpu_tf2"])
    text = (project.root / "reports/comparison.md").read_text(encoding="utf-8")
    assert "| Model | Epochs | NPU loss | GPU loss | GPU (gpu_tf2) loss |" in text
    assert "| covpoolnet2, covariance pooling | 12 | \N{EN DASH} | 1.2500 | 1.2700 |" in text


def test_published_figures_differ_by_name(project):
    project.add_run("cpu")
    entry = compared(project, ["cpu"])["cpu"]
    assert [item["what"] for item in entry["differs_from_published"]] == [
        "data",
        "batch size",
        "epochs",
        "steps an epoch",
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
    assert "nothing shows that these are the same pictures" in entry["differs_from_published"][0]["here"]


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
    with pytest.raises(ValueError, match="devices is"):
        build_report(project.root, devices=devices, loss_tolerance=0.1)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_must_be_a_share(project, tolerance):
    with pytest.raises(ValueError, match="loss_tolerance"):
        build_report(project.root, devices=["cpu"], loss_tolerance=tolerance)
