"""Where the project lies, and the launchers of its two interpreters."""

from pathlib import Path

#: The folder of the project that this code belongs to; in an experiment of DVC's, the copy that it runs in.
ROOT = Path(__file__).resolve().parent.parent.parent
#: Runs the Python that has TensorFlow, and the current one.
TF_LAUNCHER = ROOT / "stages" / "tf"
PY_LAUNCHER = ROOT / "stages" / "py"
