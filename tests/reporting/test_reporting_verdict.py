"""The verdict on the loss, and what it is worth."""

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from covpool.reporting import accuracy, comparison, sentences, verdict
from covpool.reporting.runs import read_run
from tests.reporting.helpers import compared, table

pytestmark = pytest.mark.usefixtures("no_page")


POSITIVE = st.floats(1e-6, 1e6)


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
        assert verdict.within(value, reference, tolerance) == (share < tolerance)


@given(reference=POSITIVE, tolerance=st.floats(0, 0.99))
def test_the_ends_of_the_tolerance_pass(reference, tolerance):
    for side in (1, -1):
        assert verdict.within(reference + side * tolerance * reference, reference, tolerance)


@given(value=POSITIVE, reference=POSITIVE, scale=st.floats(1e-3, 1e3))
def test_differences_and_ratios_do_not_depend_on_the_unit(value, reference, scale):
    for figure in (verdict.ratio, verdict.relative_difference):
        first, second = figure(value, reference), figure(value * scale, reference * scale)
        assert first == pytest.approx(second, rel=1e-9, abs=1e-9)
    assert verdict.ratio(value, reference) - 1 == pytest.approx(
        verdict.relative_difference(value, reference), rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize("pair", [(None, 1.0), (1.0, None), (1.0, 0.0), (1e308, 1e-300)])
def test_no_ratio_is_better_than_a_wrong_one(pair):
    assert verdict.ratio(*pair) is None
    assert verdict.relative_difference(*pair) is None


def two_runs(tmp_path, make_project, **figures):
    project = make_project(tmp_path, counts=(("train", 1), ("val", 20)))
    for name in ("npu", "gpu"):
        project.add_run(name, loss=1.2, **figures)
    return project


def test_a_pass_of_runs_that_learned_has_no_warning(tmp_path, make_project):
    project = two_runs(tmp_path, make_project, skill=4.0)
    content = comparison.compare([read_run(project.root, name) for name in ("npu", "gpu")], 0.1)
    verdict_of = content["runs"][0]["verdict"]
    assert verdict_of["result"] == "pass" and verdict_of["warnings"] == []
    assert [result for result, _ in sentences.verdicts(content)] == ["pass"]


def test_a_pass_of_runs_that_guess_is_a_warning(tmp_path, make_project):
    project = two_runs(tmp_path, make_project, skill=0.0)
    content = comparison.compare([read_run(project.root, name) for name in ("npu", "gpu")], 0.1)
    found = sentences.verdicts(content)
    assert [result for result, _ in found] == ["warn", "warn", "warn"]
    assert "NPU loss is within 10 % of GPU: pass" in found[0][1]
    for title, (_, text) in zip(("NPU", "GPU"), found[1:], strict=True):
        assert text.startswith(f"Warning: {title} has learned little") and "above chance (14.3 %)" in text


@pytest.mark.parametrize(("epochs", "steps", "short"), [(1, 500, True), (12, 99, True), (2, 100, False)])
def test_a_very_short_run_is_a_warning(tmp_path, make_project, epochs, steps, short):
    def change(record):
        record["progress"].update(epochs=epochs, steps=steps)

    project = two_runs(tmp_path, make_project, skill=4.0, change=change)
    warnings = compared(project, ["npu", "gpu"])["npu"]["verdict"]["warnings"]
    assert [text.split(" is ")[1][:9] for text in warnings] == ["too short"] * short


def test_accuracy_and_equal_predictions_stand_beside_the_loss(tmp_path, make_project):
    project = two_runs(tmp_path, make_project)
    paths = [f"evaluation/{name}/val/predictions.csv" for name in ("npu", "gpu")]
    ours, theirs = ({row["source"]: row for row in table(project, path)} for path in paths)
    equal = sum(ours[source]["predicted"] == theirs[source]["predicted"] for source in theirs) / len(theirs)
    hits = [
        100 * sum(row["actual"] == row["predicted"] for row in rows.values()) / len(rows) for rows in (ours, theirs)
    ]
    judged = compared(project, ["npu", "gpu"])["npu"]["verdict"]
    assert judged["agreement"]["val"] == pytest.approx(equal)
    assert f"Accuracy on val: {hits[0]:.1f} % against {hits[1]:.1f} %, with equal predictions for" in judged["text"]


@given(st.integers(1, 2000), st.floats(0, 1))
def test_an_interval_contains_the_shares_that_it_should(number, fraction):
    share = round(fraction * number) / number
    expected = scipy.stats.binomtest(round(share * number), number).proportion_ci(0.95, "wilson")
    assert accuracy.wilson_interval(share, number) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_chance_is_the_share_of_the_most_frequent_class():
    assert accuracy.chance_level({"confusion": [[1, 5], [0, 2]]}) == 0.75


@pytest.mark.parametrize(("hits", "near"), [(50, True), (59, True), (61, False), (30, True)])
def test_near_chance_is_by_the_interval(hits, near):
    """100 pictures of two classes of equal size: the interval of 59 hits is from 49.2 %, of 61 from 51.2 %."""
    scores = {"accuracy": hits / 100, "images": 100, "confusion": [[50, 0], [50, 0]]}
    assert accuracy.is_near_chance(scores) is near
