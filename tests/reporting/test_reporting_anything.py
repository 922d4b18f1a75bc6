"""Whatever the files of a run contain, the report is written, with that run or with the reason why not."""

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from covpool.pipeline import artifacts
from covpool.reporting import build_report, charts, gallery
from covpool.reporting.runs import MISSING, READ, REFUSED

NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 1, 10**30, 10**400, 5e-324, 1e308, -1e308, math.inf, math.nan])
)
TEXTS = st.one_of(st.text(max_size=5), st.sampled_from(["", "npu", "\ud800", "\0", "../x", "none", "linear", "<b>|"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
REMOVED = object()


def everything(record):
    """A record with all that one may hold."""
    record["device"]["options"] = {
        "precision_mode": "force_fp32",
        "loss_scaling": "off",
        "iterations_per_loop": 1,
        "parameter_map": {"jit_compile": True},
    }
    record["host"]["settings"] = {"KMP_BLOCKTIME": "1"}
    record["progress"].update(steps_per_loss=1, learning_rates=[[0, 0.001], [8, 0.0003]])
    record["parameters"]["train"]["scale_learning_rate"] = "linear"
    record["parameters"]["train"]["learning_rate_decay_factor"] = 1.0
    record["energy"] = {"joules": 9200.0, "seconds": 400.0, "covered": 0.97, "source": "the card by npu-smi"}
    record["memory"]["device_peak_bytes"] = 2**30


@pytest.fixture(scope="module")
def two_runs(make_project, tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("anything"), counts=(("train", 1), ("val", 2)))
    project.add_run("npu", change=everything)
    project.add_run("gpu")
    return project


def places(content, path=()):
    """The path of every value in a JSON value, its own included."""
    yield path
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield from places(content[key], (*path, key))


def changed(content, path, value):
    if not path:
        return None if value is REMOVED else value
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


def sealed(content):
    try:
        return artifacts.seal(content)
    except (AttributeError, ValueError):
        return content


def assert_reported(project, monkeypatch, draw=False):
    """The report is there, the GPU's part as ever, and the NPU's or a reason in one line."""
    with monkeypatch.context() as patched:
        if not draw:
            # Drawings and pictures take most of the time, and pictures do not depend on these files.
            patched.setattr(charts, "_svg", lambda *_: "")
            patched.setattr(gallery, "data_uri", lambda image: "data:,")
            patched.setattr(gallery, "worst_sheet", lambda root: None)
            patched.setattr(gallery, "face_strips", lambda faces, class_names: [])
        build_report(project.root, devices=["npu", "gpu"], loss_tolerance=0.1)
    content = artifacts.read_json(project.root / "reports/comparison.json")
    artifacts.read_json(project.root / "reports/metrics.json")
    npu, gpu = content["runs"]
    assert gpu["status"] == READ and gpu["figures"]["loss"] == 1.25
    assert npu["status"] in (READ, MISSING, REFUSED)
    reasons = npu["notes"] if npu["status"] == READ else [npu["reason"]]
    assert all(reason and "\n" not in reason for reason in reasons)
    return npu


def fuzz(examples):
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks)


RECORDS = ["runs/npu/run.json", "evaluation/npu/val/scores.json"]


def with_text(path, text):
    """Writes a file and gives its old content back afterwards."""
    old = path.read_bytes()
    path.write_text(text, encoding="utf-8", newline="")
    return old


@pytest.mark.parametrize("file", RECORDS)
@fuzz(50)
@given(data=st.data())
def test_any_value_anywhere(two_runs, monkeypatch, file, data):
    assert_any_value(two_runs, monkeypatch, file, data)


@pytest.mark.slow
@pytest.mark.parametrize("file", RECORDS)
@fuzz(1000)
@given(data=st.data())
def test_any_value_anywhere_at_length(two_runs, monkeypatch, file, data):
    assert_any_value(two_runs, monkeypatch, file, data)


def assert_any_value(two_runs, monkeypatch, file, data):
    path = two_runs.root / file
    content = json.loads(path.read_text(encoding="utf-8"))
    place = data.draw(st.sampled_from(list(places(content))))
    value = data.draw(st.one_of(VALUES, st.just(REMOVED)))
    new = sealed(changed(content, place, value)) if "content_hash" not in place else changed(content, place, value)
    old = with_text(path, json.dumps(new))
    try:
        assert_reported(two_runs, monkeypatch)
    finally:
        path.write_bytes(old)


CELLS = st.one_of(
    st.sampled_from(
        [
            "",
            "nan",
            "inf",
            "-inf",
            "-1",
            "0",
            "0.5",
            "7",
            "1e-320",
            "1e99",
            "1e308",
            "1e999",
            "1" * 30,
            '"',
            "a,b",
            "\n",
            "true",
        ]
    ),
    TEXTS.filter(lambda text: "\ud800" not in text),
)
TABLES = ["runs/npu/history.csv", "runs/npu/times.csv", "evaluation/npu/val/predictions.csv"]


def mutated(text, data):
    """A table in which a cell is another one, a piece of text is inserted, or the rest is cut off."""
    how, piece = data.draw(st.sampled_from(["cell", "cell", "insert", "cut"])), data.draw(CELLS)
    if how == "cell":
        lines = [line.split(",") for line in text.splitlines()]
        line = data.draw(st.sampled_from(lines))
        line[data.draw(st.integers(0, len(line) - 1))] = piece
        return "\n".join(",".join(line) for line in lines) + "\n"
    place = data.draw(st.integers(0, len(text)))
    return text[:place] + (piece + text[place:] if how == "insert" else "")


def assert_table(two_runs, monkeypatch, file, data, draw):
    path = two_runs.root / file
    old = with_text(path, mutated(path.read_text(encoding="utf-8"), data))
    two_runs.reseal("npu")
    try:
        assert_reported(two_runs, monkeypatch, draw)
    finally:
        path.write_bytes(old)
        two_runs.reseal("npu")


@pytest.mark.parametrize("file", TABLES)
@fuzz(20)
@given(data=st.data())
def test_any_cell_in_a_table(two_runs, monkeypatch, file, data):
    assert_table(two_runs, monkeypatch, file, data, draw=False)


@pytest.mark.parametrize("file", TABLES[:2])
@fuzz(3)
@given(data=st.data())
def test_what_is_read_of_a_table_can_be_drawn(two_runs, monkeypatch, file, data):
    assert_table(two_runs, monkeypatch, file, data, draw=True)


@pytest.mark.parametrize(
    "text",
    [
        '{"content_hash": NaN}',
        '{"content_hash": 1e999}',
        '{"content_hash": "\\ud800"}',
        "[" * 100_000,
        "\0",
        "",
        "null",
        "{" + 60 * '"a": {' + 61 * "}",
    ],
)
@pytest.mark.parametrize("file", RECORDS)
def test_what_is_no_record_at_all(two_runs, monkeypatch, file, text):
    path = two_runs.root / file
    old = with_text(path, text)
    try:
        npu = assert_reported(two_runs, monkeypatch)
    finally:
        path.write_bytes(old)
    assert npu["status"] == REFUSED if file.startswith("runs") else npu["evaluations"] == {}


@pytest.mark.parametrize("file", ["runs/npu/run.json", "evaluation/npu/val/scores.json", *TABLES])
def test_a_folder_where_a_file_should_be(two_runs, monkeypatch, file):
    path = two_runs.root / file
    old = path.read_bytes()
    path.unlink()
    path.mkdir()
    try:
        npu = assert_reported(two_runs, monkeypatch)
    finally:
        path.rmdir()
        path.write_bytes(old)
    reasons = npu["notes"] if npu["status"] == READ else [npu["reason"]]
    assert any(reason.endswith(f"{path.name} can't be read: Is a directory") for reason in reasons)
