"""The folder of the project, and the launchers of its two interpreters."""

from pathlib import Path

#: The folder of the project. In an experiment that DVC runs in a copy of the project, it is that copy.
ROOT = Path(__file__).resolve().parent.parent.parent
#: TF_LAUNCHER runs the Python that has TensorFlow. PY_LAUNCHER runs the newer Python of all other stages.
TF_LAUNCHER = ROOT / "stages" / "tf"
PY_LAUNCHER = ROOT / "stages" / "py"
