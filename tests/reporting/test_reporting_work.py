"""Which runs did the same work, and what else is said of their differences."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covpool.reporting import work
from covpool.reporting.runs import READ, Run
from tests.reporting.helpers import compared, markdown, report, table

pytestmark = pytest.mark.usefixtures("no_page")


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
    assert reason in markdown(project)


def test_runs_that_pool_differently_are_two_networks(project):
    def average(record):
        record["parameters"]["network"]["pooling"] = "average"

    project.add_run("gpu")
    project.add_run("gpu_mean", "gpu", change=average)
    entry = report(project, ["gpu", "gpu_mean"])[0]["gpu_mean"]
    assert entry["comparable"] is False
    assert entry["differences"] == ["parameter network.pooling: average here, covariance at GPU"]
    text = markdown(project)
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
    assert (work.differences(ours, theirs) == []) is same
    assert (work.differences(theirs, ours) == []) is same
    assert any("of batch" in text for text in work.remarks(ours, theirs)) is (here != there)


def test_losses_of_a_device_loop_are_told_from_those_of_every_step(project):
    project.add_run("gpu")
    project.add_run("npu", change=lambda record: record["progress"].update(steps_per_loss=5))
    entry = compared(project, ["gpu", "npu"])["npu"]
    assert entry["comparable"] is True
    assert entry["remarks"] == ["its loss was recorded at one step in 5, at GPU at every step"]


def told(**options):
    return lambda record: record["device"].update(options=dict({"parameter_map": {}}, **options))


TAKES_FLOAT16 = "allow_fp32_to_fp16 (float16 for operations that the chip does not have in float32)"


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
        (told(precision_mode=""), f"no precision_mode set, so the adapter's default, {TAKES_FLOAT16}"),
        (
            told(
                precision_mode="",
                loss_scaling="fixed",
                loss_scale=512.0,
                parameter_map={"precision_mode_v2": "mixed_float16"},
            ),
            "precision_mode_v2 mixed_float16, loss_scaling fixed at 512",
        ),
        (lambda record: None, "an unknown precision (its record does not say)"),
    ],
)
@pytest.mark.parametrize("other", ["gpu", "cpu", None])
def test_what_an_npu_computed_in_is_told_beside_any_other(project, change, arithmetic, other):
    project.add_run("npu", change=change)
    names = ["npu", *([project.add_run(other)["name"]] if other else [])]
    entries = report(project, names)[0]
    assert entries["npu"]["arithmetic"] == arithmetic and len(entries) == len(names)
    text = markdown(project)
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
    text = markdown(project)
    assert f"- GPU: computed with {arithmetic}.\n" in text and "GPU (gpu_before): computed" not in text


def test_other_code_is_remarked_upon(project):
    project.add_run("npu", change=lambda record: record["code"].update(hash="6" * 64))
    project.add_run("gpu", change=lambda record: record["tensorflow"].update(build="stock"))
    entry = compared(project, ["npu", "gpu"])["npu"]
    assert entry["comparable"] is True
    assert entry["remarks"] == [
        "TensorFlow build intel here, stock at GPU",
        "its code differs from that of GPU (by the hashes of the code)",
    ]
