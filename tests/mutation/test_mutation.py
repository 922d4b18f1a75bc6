"""The mutation check itself: what it changes, and that it tells a test that looks from one that does not."""

import ast
import subprocess
import sys

import pytest

from tests.mutation.__main__ import known_equivalents
from tests.mutation.places import choose, find_mutations
from tests.mutation.running import Copy, MutationError
from tests.project import ROOT

MODULE = b'''"""Says 1 + 1."""

import math as m1


@m1.cache(1)
def clamp(value: "1 + 1", low: int = 0) -> "2":
    """Not 3."""
    if value < low and not value == 7.5:
        return max(low, -value)
    return f"{value + 1}"


if __name__ == "__main__":
    clamp(1 + 1)
'''


def test_each_place_is_found_and_nothing_else():
    found = {(each.operator, each.before, each.after) for each in find_mutations("a.py", MODULE)}
    assert found == {
        ("constant", "0", "1"),
        ("constant", "0", "-1"),
        ("comparison", "value < low", "(value >= low)"),
        ("bound", "value < low", "(value <= low)"),
        ("and/or", "value < low and not value == 7.5", "(value < low or not value == 7.5)"),
        ("negation", "not value == 7.5", "(value == 7.5)"),
        ("comparison", "value == 7.5", "(value != 7.5)"),
        ("constant", "7.5", "11.25"),
        ("extreme", "max(low, -value)", "min(low, -value)"),
        ("sign", "-value", "value"),
    }


@pytest.mark.parametrize(
    "line", ["x += 1", "a = 'äöü', 3 - x", "y = x[2 * k, ::-1]", "z = not (a or b) in c", "p = -(a\n  + b)"]
)
def test_a_mutation_changes_its_place_alone(line):
    source = f"# Zürich\n{line}\n".encode()
    for mutation in find_mutations("a.py", source):
        changed = mutation.apply(source)
        ast.parse(changed)
        assert changed == source[: mutation.start] + mutation.after.encode() + source[mutation.end :]
        assert source[mutation.start : mutation.end].decode() == mutation.before
        assert mutation.line == source[: mutation.start].count(b"\n") + 1


def test_the_choice_depends_on_the_seed_and_takes_a_place_once():
    found = find_mutations("a.py", MODULE)
    chosen = choose(found, 100, seed=0)
    places = [(each.start, each.end) for each in chosen]
    assert places == sorted(set(places))
    assert len(places) == len({(each.start, each.end) for each in found})
    assert choose(found, 4, seed=1) == choose(found, 4, seed=1) != choose(found, 4, seed=2)
    assert len(choose(found, 4, seed=1)) == 4


SMALL = """
def least(a, b):
    while a != a:
        pass
    return min(a, b) if a > 0 else 1
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of one module, with a test that looks at one branch, and one that never imports it."""
    root = tmp_path_factory.mktemp("project")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / "small.py").write_text(SMALL)
    (root / "test_small.py").write_text("import small\n\n\ndef test():\n    assert small.least(1, 2) == 1\n")
    (root / "test_other.py").write_text("def test():\n    pass\n")
    (root / "test_broken.py").write_text("def test():\n    assert False\n")
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    stages = root / "stages"
    stages.mkdir()
    (stages / "py").write_text('#!/bin/sh\nexec "' + sys.executable + '" "$@"\n')
    (stages / "py").chmod(0o755)
    return root


@pytest.mark.slow
def test_killed_survived_and_timeout(project, tmp_path):
    copy = Copy(project, tmp_path, ["test_small.py"])
    copy.check(["small.py"])
    found = find_mutations("small.py", (project / "small.py").read_bytes())
    limits = {"(a == a)": 3, "max(a, b)": 60, "(a >= 0)": 60}
    results = {each.after: copy.run(each, limits[each.after]) for each in found if each.after in limits}
    assert results == {"(a == a)": "timeout", "max(a, b)": "killed", "(a >= 0)": "survived"}
    assert (tmp_path / "small.py").read_bytes() == (project / "small.py").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "test, message", [("test_other.py", "do not import it"), ("test_broken.py", "fail without a mutation")]
)
def test_tests_that_say_nothing_of_the_module_are_refused(project, tmp_path, test, message):
    with pytest.raises(MutationError, match=message):
        Copy(project, tmp_path, [test]).check(["small.py"])


def test_the_listed_mutations_exist():
    """A line that was changed since has to be judged again."""
    for module, text, before, after in known_equivalents():
        source = (ROOT / module).read_bytes()
        lines = source.decode().splitlines()
        found = {(lines[each.line - 1].strip(), each.before, each.after) for each in find_mutations(module, source)}
        assert (text, before, after) in found, f"{module}: {text}"
