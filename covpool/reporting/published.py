"""The figures that others published, each with its source, as the report shows them beside those of a run.

They are in `published.csv`. The first four are from the two tables of the Ascend port's README, which the report
repeats; they hold for SFEW_100, 95 epochs of 95 steps and batches of 128.
"""

from dataclasses import dataclass
from pathlib import Path

from covpool.pipeline import artifacts

FILE = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class PublishedFigure:
    """One published number. `kind` is cpu, gpu, npu or None (not stated); `bound` is `exact` or `at least`."""

    quantity: str
    value: float
    text: str
    unit: str
    bound: str
    kind: str | None
    device: str
    model: str
    data: str
    epochs: int | None
    epoch_size: int | None
    batch_size: int | None
    meaning: str
    source: str


def published_figures() -> list[PublishedFigure]:
    """Return all published figures, in the order of the file."""
    return [_figure(row) for row in artifacts.read_csv(FILE, PublishedFigure.__annotations__.keys() - {"text"})]


def published_training(kind: str) -> dict[str, PublishedFigure]:
    """Return the figures `loss` and `seconds_per_step` of the Ascend port's training for `npu` or `gpu`."""
    return {
        figure.quantity: figure
        for figure in published_figures()
        if figure.kind == kind and figure.quantity in ("loss", "seconds_per_step")
    }


def _figure(row):
    whole = {key: int(row[key]) if row[key] else None for key in ("epochs", "epoch_size", "batch_size")}
    return PublishedFigure(
        **{**row, **whole, "value": float(row["value"]), "text": row["value"], "kind": row["kind"] or None}
    )
