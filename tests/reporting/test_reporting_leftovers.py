"""What other runs left behind is moved out of the report's dependencies, and nothing else is."""

from covpool.reporting.leftovers import LEFT_OUT, set_aside


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write(root, **content):
    for name, text in content.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_only_runs_that_are_not_named_are_moved(tmp_path):
    write(tmp_path, runs__cpu__a="1", runs__old__a="2", runs__stray="3", evaluation__old__b="4", models__old__c="5")
    moved = set_aside(tmp_path, ("cpu", "gpu"))
    assert [path.as_posix() for path in moved] == ["runs/old", "runs/stray", "evaluation/old"]
    assert files(tmp_path / "runs") == {"cpu/a": "1"} and files(tmp_path / "evaluation") == {}
    assert files(tmp_path / "models") == {"old/c": "5"}
    assert files(tmp_path / LEFT_OUT) == {"runs/old/a": "2", "runs/stray": "3", "evaluation/old/b": "4"}
    assert set_aside(tmp_path, ("cpu", "gpu")) == []


def test_the_last_one_left_out_is_kept(tmp_path):
    write(tmp_path, runs__old__a="1", runs__old__b="1", runs__stray="1")
    set_aside(tmp_path, ("cpu",))
    write(tmp_path, runs__old__a="2", runs__stray="2")
    set_aside(tmp_path, ("cpu",))
    assert files(tmp_path / LEFT_OUT) == {"runs/old/a": "2", "runs/stray": "2"}


def test_nothing_to_move_is_no_error(tmp_path):
    assert set_aside(tmp_path, ("cpu",)) == []
    assert not list(tmp_path.iterdir())
