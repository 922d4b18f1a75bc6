"""The exported networks in the report: their size, how far they agree with TensorFlow, and what scoring takes."""

from collections.abc import Sequence
from pathlib import Path

from covpool.pipeline import artifacts
from covpool.reporting.runs import Run
from covpool.reporting.tables import Table

#: Figure of `exports/<run>.json` -> its heading, and how it is written.
_FIGURES = {
    "bytes": ("Size in MB", lambda value: f"{value / 1e6:.1f}"),
    "same_class": ("Same class as TensorFlow", lambda value: f"{value:.0f}"),
    "faces": ("Faces compared", lambda value: f"{value:.0f}"),
    "largest_difference": ("Largest difference of a probability", lambda value: f"{value:.1e}"),
    "ms_per_face_batch_1": ("ms per face, one at a time", lambda value: f"{value:.1f}"),
    "ms_per_face_batch_16": ("ms per face, batch 16", lambda value: f"{value:.1f}"),
}


def export_table(root: Path | str, runs: Sequence[Run]) -> Table | None:
    """Return one row per exported run; None if no run was exported.

    Args:
        root: The project's folder.
        runs: The runs of the report.
    """
    rows = []
    for run in runs:
        path = Path(root) / artifacts.EXPORTS / f"{run.name}.json"
        if run.usable and path.is_file():
            rows.append((run.title, *_cells(path)))
    headings = ("Run", "ONNX file", *(heading for heading, _ in _FIGURES.values()))
    return Table(headings, tuple(rows)) if rows else None


def export_headlines(root: Path | str, runs: Sequence[Run]) -> dict[str, dict]:
    """Return `{label of a run: figures for metrics.json}` of the runs that were exported."""
    found = {}
    for run in runs:
        try:
            figures = artifacts.read_json(Path(root) / artifacts.EXPORTS / f"{run.name}.json")
        except artifacts.ArtifactError:
            continue
        if run.usable and isinstance(figures, dict) and figures.get("exported") == 1:
            named = {"onnx_mb": ("bytes", 1e-6), "onnx_difference": ("largest_difference", 1.0)}
            values = {name: (figures.get(key), factor) for name, (key, factor) in named.items()}
            found[run.label] = {
                name: float(f"{value * factor:.6g}") for name, (value, factor) in values.items() if _is_number(value)
            }
    return found


def _cells(path):
    """What the row says after the run's title; nothing in the file can make it fail."""
    try:
        figures = artifacts.read_json(path)
    except artifacts.ArtifactError:
        figures = None
    if not isinstance(figures, dict):
        return ("can't be read", *("" for _ in _FIGURES))
    written = figures.get("exported") == 1
    cells = (_text(figures.get(name), text) for name, (_, text) in _FIGURES.items())
    return (f"exports/{path.stem}/model.onnx" if written else "refused: see exports/" + path.stem, *cells)


def _text(value, text):
    return text(value) if _is_number(value) else ""


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
