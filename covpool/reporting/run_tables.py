"""The tables of a run and of its evaluation as pandas frames: `history.csv`, `times.csv` and `predictions.csv`.

Whatever a file contains, reading it gives a frame that the report can use as it is, or raises an ArtifactError with one
sentence on what is wrong.
"""

import math
from pathlib import Path

import pandas as pd

from covpool.pipeline import artifacts
from covpool.reporting.schema import LARGEST, shown

#: More steps than any training has; `times.csv` is spread to one value per step.
MOST_STEPS = 10_000_000


def read_history(path: Path) -> pd.DataFrame:
    """Read `history.csv`.

    Returns:
        One row per epoch, all columns float64. An empty cell is nan, as is a measure that was not finite.

    Raises:
        ArtifactError: If a cell is not a number, or the epochs are not 1, 2, 3, ...
    """
    text = _read(path, artifacts.HISTORY_COLUMNS)
    table = text.map(lambda cell: _number(cell) if cell else math.nan)
    # "nan" and "inf" are written for a measure of a diverged run. None marks what is not a number.
    for column in table.columns:
        wrong = table[column].isna() & ~text[column].str.lower().isin(("", "nan"))
        wrong |= table[column].abs().between(LARGEST, math.inf, inclusive="left")
        if wrong.any():
            place = wrong.idxmax()
            cell = shown(text.at[place, column])
            raise artifacts.ArtifactError(f"{path}: row {place + 1}: {column} must be a number, got {cell}.")
    table = table.astype(float).replace([math.inf, -math.inf], math.nan)
    for place, epoch in enumerate(table["epoch"], 1):
        if epoch != place:
            raise artifacts.ArtifactError(f"{path}: row {place}: epoch must be {place}, got {epoch:g}.")
    return table


def read_times(path: Path) -> pd.DataFrame:
    """Read `times.csv` without the warm-up steps, which also prepare a graph.

    Returns:
        The columns `epoch` and `seconds`, one row per step. A row of a device loop holds the mean of its `steps`, and
        is repeated for each of them.

    Raises:
        ArtifactError: If a row does not hold positive numbers, or there are too many steps.
    """
    text = _read(path, artifacts.TIMES_COLUMNS)
    table = pd.DataFrame({key: text[key].map(_number) for key in ("epoch", "steps", "seconds")}, dtype=float)
    whole = (table[["epoch", "steps"]] % 1 == 0).all(axis=1)
    valid = whole & (table > 0).all(axis=1) & (table[["epoch", "steps"]] < MOST_STEPS).all(axis=1)
    valid &= table["seconds"] < LARGEST
    if not valid.all():
        place = (~valid).idxmax()
        epoch, steps, seconds = (shown(text.at[place, key]) for key in ("epoch", "steps", "seconds"))
        raise artifacts.ArtifactError(
            f"{path}: row {place + 1}: epoch, steps and seconds must be positive numbers, "
            f"got {epoch}, {steps} and {seconds}."
        )
    table = table[text["warm_up"] != "true"]
    if table["steps"].sum() > MOST_STEPS:
        raise artifacts.ArtifactError(f"{path}: expected at most {MOST_STEPS} steps, got {table['steps'].sum():.0f}.")
    return table.loc[table.index.repeat(table["steps"].astype(int)), ["epoch", "seconds"]].reset_index(drop=True)


def read_predictions(path: Path, scores: dict) -> pd.DataFrame:
    """Read `predictions.csv`.

    Args:
        path: The file.
        scores: The content of `scores.json` beside it.

    Returns:
        One row per picture: `source`, `actual` and `predicted` as text; `confidence` and `p_<class>` as float64.

    Raises:
        ArtifactError: If the table does not fit the scores, or a probability is not between 0 and 1.
    """
    columns = artifacts.predictions_columns(scores["classes"])
    table = _read(path, columns)
    if len(table) != scores["images"]:
        raise artifacts.ArtifactError(f"{path}: expected {scores['images']} rows, as in scores.json, got {len(table)}.")
    shares = table[list(columns[3:])].map(_number).astype(float)
    valid = table[["actual", "predicted"]].isin(scores["classes"]).all(axis=1)
    valid &= ((shares >= 0) & (shares <= 1)).all(axis=1)
    if not valid.all():
        row = (~valid).idxmax() + 1
        raise artifacts.ArtifactError(f"{path}: row {row} must hold two classes and probabilities from 0 to 1.")
    return pd.concat([table[list(columns[:3])], shares], axis=1)


def _read(path, columns):
    return pd.DataFrame(artifacts.read_csv(path, columns), columns=list(columns), dtype=object)


def _number(text):
    try:
        return float(text)
    except ValueError:
        return math.nan
