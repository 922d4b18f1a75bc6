"""The rooms of the package keep to themselves: who may import whom, checked on the source and in fresh interpreters."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "covpool"

#: room -> the rooms of covpool that it may import
ALLOWED = {
    "spd": set(),
    "networks": {"spd"},
    "devices": set(),
    "training": {"spd", "networks", "devices"},
    "datasets": set(),
    "validation": set(),
    "faces": set(),
    "reporting": set(),
}
#: Programs that stand in a room by their name and above all of them by what they do: they look at whole training steps.
PROGRAMS = {"devices/describe.py", "devices/parity.py", "devices/parity_side.py"}
WITHOUT_TENSORFLOW = ("datasets", "validation", "faces", "reporting")


def imports(path):
    """The modules that a file names in its imports, wherever they stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "{}: imports are absolute here".format(path)
            yield from ("{}.{}".format(node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_the_rooms_that_it_may(room):
    files = sorted((PACKAGE / room).glob("**/*.py"))
    assert files
    for path in files:
        if str(path.relative_to(PACKAGE)) in PROGRAMS:
            continue
        for module in imports(path):
            parts = module.split(".")
            assert "/".join(parts[1:3]) + ".py" not in PROGRAMS, "{} imports {}".format(path, module)
            if parts[0] == "covpool" and len(parts) > 1 and parts[1] in ALLOWED:
                assert parts[1] in ALLOWED[room] | {room}, "{} imports {}".format(path, module)
            if room in WITHOUT_TENSORFLOW:
                assert parts[0] not in ("tensorflow", "npu_bridge"), "{} imports {}".format(path, module)


def test_all_rooms_are_listed():
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ALLOWED)


@pytest.mark.parametrize("module", ["covpool.params", "covpool.artifacts", "covpool.classes"])
def test_what_both_interpreters_share_needs_neither_side(module):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'pandas', 'PIL', 'cv2', 'dvc'])); "
        "import {}".format(module)
    )
    subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), check=True)


@pytest.mark.parametrize("room", ["spd", "networks", "training", "devices"])
def test_tensorflow_rooms_are_written_for_python_3_7(room):
    for path in (PACKAGE / room).glob("**/*.py"):
        ast.parse(path.read_text(), feature_version=(3, 7))


def test_stage_scripts_are_short():
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path
