"""The rooms of the package keep to themselves: who may import whom, checked on the source and in fresh interpreters."""

import ast
import subprocess
import sys

import pytest

from tests.project import ROOT

PACKAGE = ROOT / "covpool"

#: room -> the rooms of covpool that it may import: those that stand below it, with nothing in both directions
ALLOWED = {
    "config": set(),
    "pipeline": {"config"},
    "images": set(),
    "rendered": {"config", "pipeline"},
    "datasets": {"config", "pipeline", "rendered"},
    "validation": {"config", "pipeline", "images"},
    "faces": {"config", "pipeline", "images"},
    "spd": set(),
    "networks": {"spd"},
    "distributed": set(),
    "devices": {"config", "pipeline", "distributed"},
    "training": {"config", "pipeline", "spd", "networks", "devices"},
    "diagnostics": {"config", "pipeline", "distributed", "networks", "devices", "training"},
    "port": {"config", "pipeline", "datasets", "distributed"},
    "reporting": {"config", "pipeline", "port"},
    "predict": {"config", "pipeline", "images", "faces"},
    "serve": {"config", "pipeline", "images", "faces", "predict"},
    "export": {"config", "pipeline", "faces", "spd", "networks", "devices", "training", "predict"},
}
#: Rooms that a current Python runs, and that never see TensorFlow.
WITHOUT_TENSORFLOW = (
    "config",
    "pipeline",
    "images",
    "rendered",
    "datasets",
    "validation",
    "faces",
    "port",
    "reporting",
    "predict",
    "serve",
)
#: Rooms that run under TensorFlow 1.15's Python 3.7, alone or too.
PYTHON_3_7 = ("config", "pipeline", "spd", "networks", "distributed", "devices", "training", "diagnostics")
#: Of a room for both, what the current Python alone runs.
CURRENT = {
    "pipeline/process_pool.py",
    "pipeline/progress.py",
    "pipeline/experiment.py",
    "pipeline/machine.py",
    "pipeline/way_back.py",
}


def imports(path):
    """The modules that a file names in its imports, wherever they stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_the_rooms_that_it_may(room):
    files = sorted((PACKAGE / room).glob("**/*.py"))
    assert files
    for path in files:
        for module in imports(path):
            parts = module.split(".")
            if parts[0] == "covpool" and len(parts) > 1 and parts[1] in ALLOWED:
                assert parts[1] in ALLOWED[room] | {room}, f"{path} imports {module}"
            if room in WITHOUT_TENSORFLOW:
                assert parts[0] not in ("tensorflow", "npu_bridge"), f"{path} imports {module}"


def test_arrows_point_down():
    """No room can be reached from a room that it may import."""
    seen = set()
    for room, below in ALLOWED.items():
        assert below <= seen, f"{room} may import {sorted(below - seen)}, which stands beside or above it"
        seen.add(room)


def test_the_package_itself_holds_rooms_only():
    assert {path.name for path in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py"}


def test_all_rooms_are_listed():
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ALLOWED)


@pytest.mark.parametrize(
    "module",
    [
        "covpool.config",
        "covpool.pipeline.artifacts",
        "covpool.pipeline.stage_frame",
        "covpool.distributed.launcher",
        "covpool.port.train_8npu",
        "covpool.port.published_setting",
    ],
)
def test_what_both_interpreters_share_needs_neither_side(module):
    code = (
        f"import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'pandas', 'PIL', 'cv2', 'dvc'])); import {module}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=str(ROOT), check=True)


@pytest.mark.parametrize("room", PYTHON_3_7)
def test_tensorflow_rooms_are_written_for_python_3_7(room):
    for path in (PACKAGE / room).glob("**/*.py"):
        if str(path.relative_to(PACKAGE)) not in CURRENT:
            ast.parse(path.read_text(), feature_version=(3, 7))


def test_stage_scripts_are_short():
    for path in (ROOT / "stages").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path
