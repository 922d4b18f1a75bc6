"""What the cache gives back, and that it never gives back what is damaged."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covpool.faces import Face
from covpool.faces.cache import DetectionCache

SHA = "ab" + "0" * 62
SETTINGS = {"detector": "mtcnn", "package": "1.0.2"}
FACE = Face((1.5, 2.25, 30.0, 40.125), np.arange(10).reshape(5, 2) * 1.001, 0.998877)


@pytest.fixture
def cache(tmp_path):
    return DetectionCache(tmp_path, SETTINGS)


def same(one: Face, other: Face) -> bool:
    return one.box == other.box and one.score == other.score and np.array_equal(one.landmarks, other.landmarks)


def entry(folder):
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def test_gives_back_exactly_what_was_put(cache, tmp_path):
    assert cache.get(SHA) == (False, None)
    cache.put(SHA, FACE)
    known, face = DetectionCache(tmp_path, SETTINGS).get(SHA)
    assert known and same(face, FACE)


def test_knows_that_there_was_no_face(cache):
    cache.put(SHA, None)
    assert cache.get(SHA) == (True, None)


def test_other_settings_or_content_are_unknown(cache, tmp_path):
    cache.put(SHA, FACE)
    assert DetectionCache(tmp_path, {**SETTINGS, "package": "1.0.3"}).get(SHA) == (False, None)
    assert cache.get("ab" + "1" * 62) == (False, None)


def test_leaves_no_other_files(cache, tmp_path):
    for _ in range(3):
        cache.put(SHA, FACE)
    assert entry(tmp_path).name == f"{SHA}.json"


@settings(deadline=None)
@given(st.data())
def test_a_damaged_entry_is_unknown_or_unchanged(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache")
    cache = DetectionCache(folder, SETTINGS)
    cache.put(SHA, FACE)
    path = entry(folder)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 2)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    known, face = cache.get(SHA)
    assert not known or same(face, FACE)


def test_a_changed_digit_is_noticed(cache, tmp_path):
    cache.put(SHA, FACE)
    path = entry(tmp_path)
    path.write_text(path.read_text().replace("40.125", "41.125"))
    assert cache.get(SHA) == (False, None)


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"sha256": 3}', "nan", "\x00" * 200])
def test_foreign_content_is_unknown_and_replaced(cache, tmp_path, content):
    cache.put(SHA, FACE)
    entry(tmp_path).write_text(content)
    assert cache.get(SHA) == (False, None)
    cache.put(SHA, FACE)
    assert cache.get(SHA)[0]


def test_an_entry_under_another_name_is_unknown(cache, tmp_path):
    cache.put(SHA, FACE)
    other = "ab" + "2" * 62
    entry(tmp_path).rename(entry(tmp_path).with_name(f"{other}.json"))
    assert cache.get(other) == (False, None)


def test_entries_are_plain_json(cache, tmp_path):
    cache.put(SHA, FACE)
    assert json.loads(entry(tmp_path).read_text())["face"]["score"] == 0.998877
