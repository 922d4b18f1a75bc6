"""What was edited, damaged or mixed up is refused, with the reason."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covpool.pipeline import artifacts
from covpool.reporting.runs import READ, read_run
from tests.reporting.helpers import report, table

pytestmark = pytest.mark.usefixtures("no_page")


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
        ("runs/npu/run.json", "{", "", "is not valid JSON"),
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
    assert "predictions.csv changed after the evaluation" in evaluation_refused(project)


def evaluation_refused(project):
    """The reason why a run is reported without its evaluation."""
    entry = report(project, ["npu"])[0]["npu"]
    assert entry["status"] == READ and entry["evaluations"] == {}
    (note,) = entry["notes"]
    assert note.startswith("evaluation of val refused: ")
    return note


def test_files_of_before_there_were_hashes_are_read_and_said_to_be(project):
    project.add_run("npu", change=lambda record: record.pop("files"))
    path = project.root / "evaluation/npu/val/scores.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: content[key] for key in content if key not in ("files", "content_hash")}))
    entry = report(project, ["npu"])[0]["npu"]
    assert entry["evaluations"]["val"]["macro_f1"] == content["macro_f1"]
    assert entry["notes"] == [
        "its record has no hashes of history.csv and times.csv, so edits of them can't be detected",
        "its evaluation of val has no hashes, so edits of it can't be detected",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.update(name="gpu"), "record of the run 'gpu', expected 'npu'"),
        (lambda record: record.update(kind="tpu"), "kind must be 'npu', 'gpu' or 'cpu', got 'tpu'"),
        (lambda record: record.update(format=2), "format must be 1, got 2"),
        (lambda record: record.pop("speed"), "lacks speed"),
        (lambda record: record["progress"].pop("steps"), "lacks progress.steps"),
        (lambda record: record["loss"].update(total="low"), "loss.total must be a valid number, got 'low'"),
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
    assert run.usable and run.evaluations == {}
    assert any("scores.json says accuracy 0.99" in note for note in run.notes)
    assert report(project, ["cpu"])[0]["cpu"]["evaluations"] == {}
