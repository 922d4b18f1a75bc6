"""One comparison from two machines: each trains the run whose device it has, and neither needs the other's.

Two clones stand for the machines, a folder for the remote storage. Run `a` wants a Python that only the first clone
has, run `b` one that only the second has: on the other clone each refuses. A third clone is a reader's.
"""

import json

import pytest
import yaml

from tests.pipeline_project import ROOT, change, commit, dvc, git, link_environments, make_project, rows, run

CPU = yaml.safe_load((ROOT / "params.yaml").read_text())["device_options"]["cpu"]
RUNS = {
    name: {**CPU, "python": f"machine/python-of-{name}", "threads": threads} for name, threads in (("a", 1), ("b", 2))
}


def give_python(clone, name):
    """Let `clone` have the Python that run `name` asks for, and no other clone."""
    place = clone / "machine" / f"python-of-{name}"
    place.parent.mkdir(exist_ok=True)
    place.write_text('#!/bin/sh\nexec "{}" "$@"\n'.format(ROOT / ".venv-tf/bin/python"))
    place.chmod(0o755)
    (clone / ".git/info/exclude").write_text("/machine/\n")


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """The README's walk; what its steps printed by name."""
    root = tmp_path_factory.mktemp("machines")
    storage = root / "storage"
    first, second = root / "first", root / "second"
    first.mkdir()
    make_project(first, {"devices": ["a", "b"], **{"device_options." + name: RUNS[name] for name in RUNS}})
    printed = {"first": first, "second": second}
    dvc(first, "remote", "add", "--default", "storage", str(storage))
    commit(first, "remote")
    give_python(first, "a")
    printed["train a"] = dvc(first, "repro", "--pull", "export@a")
    printed["other's run"] = dvc(first, "repro", "report", code=255)
    printed["partial report"] = dvc(first, "repro", "-s", "report")
    printed["partial table"] = (first / "reports/comparison.md").read_text()
    printed["pull"] = dvc(first, "pull", code=1)
    dvc(first, "pull", "--allow-missing")
    dvc(first, "push", "--run-cache")
    commit(first, "a")

    git(root, "clone", "-q", str(first), str(second))
    link_environments(second)
    give_python(second, "b")
    printed["refused"] = run(second, "stages/tf", "stages/train.py", "--device", "a", code=1)
    printed["train b"] = dvc(second, "repro", "--pull", "export@b")
    printed["report"] = dvc(second, "repro", "--pull", "report")
    dvc(second, "push", "--run-cache")
    commit(second, "b")

    git(first, "checkout", "-q", "--detach")
    git(second, "push", "-q", "origin", "HEAD:master")
    git(first, "checkout", "-q", "master")
    printed["pull of both"] = dvc(first, "pull")
    return printed


def test_each_run_refuses_on_the_other_machine(walk):
    assert "machine/python-of-b" in walk["other's run"] and "which is not a program" in walk["other's run"]
    assert "machine/python-of-a" in walk["refused"] and "which is not a program" in walk["refused"]


def test_a_report_of_what_there_is_says_what_is_missing(walk):
    assert "Run b is missing and has no figures here: runs/b/run.json does not exist." in walk["partial table"]
    assert "covpoolnet2" in walk["partial table"]


def test_nothing_is_trained_twice(walk):
    assert "Running stage 'train@a'" in walk["train a"] and "Running stage 'train@b'" in walk["train b"]
    assert "@a'" not in walk["train b"].replace("Stage 'train@a' didn't change", "")
    assert "Running stage 'train" not in walk["report"] and "Running stage 'evaluate" not in walk["report"]
    assert "Running stage 'report'" in walk["report"]


@pytest.mark.parametrize("clone", ["first", "second"])
def test_both_machines_have_the_table_with_both_runs(walk, clone):
    clone = walk[clone]
    assert "up to date" in dvc(clone, "status")
    assert git(clone, "status", "--porcelain") == ""
    comparison = json.loads((clone / "reports/comparison.json").read_text())
    entries = {entry["name"]: entry for entry in comparison["runs"]}
    assert [entry["status"] for entry in entries.values()] == ["read", "read"]
    # What the names really were is in the records and in the table.
    for name, entry in entries.items():
        record = json.loads((clone / "runs" / name / "run.json").read_text())
        assert record["device"]["threads"] == RUNS[name]["threads"]
        assert entry["kind"] == "cpu" and entry["device"] == record["device"]["name"]
    assert entries["b"]["comparable"] is True and entries["b"]["verdict"]["result"] in ("pass", "fail")
    assert "device threads 2 here, 1 at CPU (a)" in entries["b"]["remarks"]
    assert {row["device"] for row in rows(clone / "reports/curves.csv")} == {"a", "b"}


def test_dvc_shows_both(walk):
    metrics = json.loads(dvc(walk["second"], "metrics", "show", "--json"))[""]["data"]["reports/metrics.json"]["data"]
    assert {"a", "b"} < set(metrics)
    ratio = metrics["b"]["step_s"] / metrics["a"]["step_s"]
    assert metrics["b_a_step_ratio"] == pytest.approx(ratio, rel=1e-3)
    plots = json.loads(dvc(walk["second"], "plots", "show", "--json"))
    assert not plots.get("errors")
    points = plots["data"]["loss"][0]["content"]["data"]["values"]
    assert {(point["device"], int(point["epoch"])) for point in points} == {(d, e) for d in "ab" for e in (1, 2)}
    boxes = plots["data"]["step_times"][0]["content"]["data"]["values"]
    assert [box["device"] for box in boxes] == ["a", "b"]


def test_a_tagged_model_is_got_by_its_name(walk, tmp_path):
    git(walk["second"], "tag", "-a", "covpoolfer@v1.0.0", "-m", "a model")
    get = (str(ROOT / "stages/py"), "-m", "dvc", "artifacts", "get")
    run(tmp_path, *get, str(walk["second"]), "covpoolfer", "-o", "model")
    got = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert got == {path.name: path.read_bytes() for path in (walk["first"] / "models/a").iterdir()}
    assert {"best.index", "last.index", "model.json"} <= set(got)


def test_a_run_that_is_no_longer_compared_is_out_of_sight(walk, tmp_path):
    clone = walk["second"]
    change(clone, {"devices": ["b"]})
    output = dvc(clone, "repro")
    assert "report: runs/a belongs to no run in `devices`: moved to .covpool/left-out/runs/a" in output
    assert "Running stage 'train" not in output
    assert "up to date" in dvc(clone, "status")
    dvc(clone, "push")
    commit(clone, "only b")
    third = tmp_path / "third"
    git(tmp_path, "clone", "-q", str(clone), str(third))
    link_environments(third)
    dvc(third, "pull")
    assert "up to date" in dvc(third, "status")
    # Named again, it comes back with its weights, not trained again, though this machine could not.
    change(clone, {"devices": ["a", "b"]})
    assert "Running stage 'train" not in dvc(clone, "repro")
    assert (clone / "runs/a/run.json").read_bytes() == (walk["first"] / "runs/a/run.json").read_bytes()
