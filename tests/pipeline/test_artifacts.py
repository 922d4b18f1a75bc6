"""Files appear completely or not at all, equal content gives equal bytes, and edits by hand are detected."""

import csv
import hashlib
import json
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covpool.pipeline import artifacts


def test_a_file_appears_only_when_its_block_ends_well(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    with pytest.raises(RuntimeError), artifacts.atomic_file(path) as stream:
        stream.write("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with artifacts.atomic_file(path) as stream:
        stream.write("old")
    with pytest.raises(KeyboardInterrupt), artifacts.atomic_file(path) as stream:
        stream.write("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["x.txt"]


def test_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    artifacts.write_json(tmp_path / "ours", {})
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.integers(), TEXT)))
def test_csv_reads_back_the_same(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    artifacts.write_csv(path, ("a", "b", "c"), [dict(zip("abc", row)) for row in rows])
    with open(path, newline="", encoding="utf-8") as stream:
        independent = list(csv.DictReader(stream))
    assert artifacts.read_csv(path) == independent
    assert [(float(row["a"]), int(row["b"]), row["c"]) for row in independent] == rows


def test_cells_are_written_plainly(tmp_path):
    row = {"a": None, "b": True, "c": np.float32(0.1), "d": np.int64(3), "e": 0.1, "f": math.inf}
    artifacts.write_csv(tmp_path / "x.csv", tuple("abcdef"), [row])
    assert (tmp_path / "x.csv").read_bytes() == b"a,b,c,d,e,f\n,true,0.10000000149011612,3,0.1,inf\n"


def test_unknown_and_missing_columns_are_errors(tmp_path):
    with pytest.raises(ValueError, match="no such column: b"):
        artifacts.write_csv(tmp_path / "x.csv", ("a",), [{"a": 1, "b": 2}])
    assert not (tmp_path / "x.csv").exists()
    artifacts.write_csv(tmp_path / "x.csv", ("a",), [])
    with pytest.raises(artifacts.ArtifactError, match="lacks the column b; it has a"):
        artifacts.read_csv(tmp_path / "x.csv", ("a", "b"))
    with pytest.raises(artifacts.ArtifactError, match="y.csv is missing: run the stage"):
        artifacts.read_csv(tmp_path / "y.csv")
    (tmp_path / "z.json").write_text("{")
    with pytest.raises(artifacts.ArtifactError, match="z.json is not valid JSON"):
        artifacts.read_json(tmp_path / "z.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": [NaN]}', "not finite"),
        (b"[1e999]", "not finite"),
        (b"[1" + 400 * b"0" + b"]", "not finite"),
        (b'["\\ud800"]', "surrogates"),
        (b'{"\\ud800": 1}', "surrogates"),
        (b"\xff", "utf-8"),
        (b"[" * 60 + b"]" * 60, "nested"),
        (b"[" * 200_000, "recursion"),
    ],
)
def test_json_that_could_not_be_written_again_is_not_read(tmp_path, content, reason):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(artifacts.ArtifactError, match=f"x.json is not valid JSON .*{reason}"):
        artifacts.read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1\n", "row 1 does not have 2"),
        (b"a,b\n1,2\n1,2,3\n", "row 2 does not have 2"),
        (b"\xff\n", "is not valid CSV"),
        (b'a\n"' + b"x" * 200_000, "is not valid CSV"),
    ],
)
def test_a_damaged_table_is_not_read(tmp_path, content, reason):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(artifacts.ArtifactError, match=reason):
        artifacts.read_csv(tmp_path / "x.csv")


def test_a_folder_is_not_read_as_a_file(tmp_path):
    for read in (artifacts.read_json, artifacts.read_csv):
        with pytest.raises(artifacts.ArtifactError, match="can't be read: Is a directory"):
            read(tmp_path)


def test_json_refuses_numbers_that_are_not_finite(tmp_path):
    with pytest.raises(ValueError):
        artifacts.write_json(tmp_path / "x.json", {"loss": math.nan})
    assert not (tmp_path / "x.json").exists()


def test_a_seal_notices_any_edit():
    record = artifacts.seal({"loss": 0.5, "device": {"name": "x", "count": 1}})
    assert artifacts.seal_is_intact(record)
    assert artifacts.seal_is_intact(json.loads(json.dumps(record, sort_keys=True)))
    assert artifacts.seal(record) == record
    for edited in (dict(record, loss=0.4), dict(record, extra=1), {**record, "device": {"name": "y", "count": 1}}):
        assert not artifacts.seal_is_intact(edited)
    assert not artifacts.seal_is_intact({"loss": 0.5})


def test_the_hash_of_faces_sees_names_and_bytes_and_nothing_else(tmp_path):
    (tmp_path / "train.csv").write_text("a\n")
    (tmp_path / "train.npy").write_bytes(b"12")
    before = artifacts.faces_hash(tmp_path)
    (tmp_path / "note.txt").write_text("not part of it")
    assert artifacts.faces_hash(tmp_path) == before
    (tmp_path / "train.npy").write_bytes(b"13")
    assert artifacts.faces_hash(tmp_path) != before
    assert artifacts.sha256_file(tmp_path / "train.npy") == hashlib.sha256(b"13").hexdigest()


def test_a_checkpoint_is_known_by_its_weights_not_by_its_name(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / (name + ".index")).write_bytes(b"index")
        (tmp_path / (name + ".data-00000-of-00001")).write_bytes(content)
        (tmp_path / (name + ".meta")).write_bytes(name.encode())
    first, same, other = (artifacts.checkpoint_hash(tmp_path / name) for name in "abc")
    assert first == same != other
    with pytest.raises(artifacts.ArtifactError, match="no checkpoint at .*without these endings"):
        artifacts.checkpoint_hash(tmp_path / "a.index")
