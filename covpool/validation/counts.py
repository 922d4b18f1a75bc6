"""Counts of the validated manifest: for a metrics file, and as tables that DVC plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from covpool.pipeline import artifacts

BALANCE_COLUMNS = ("split", "class", "pictures")
BRIGHTNESS_COLUMNS = ("split", "brightness", "pictures")
SIZES_COLUMNS = ("split", "shorter_side", "pictures")

#: Grey levels of a bar of the histogram of brightness.
BRIGHTNESS_STEP = 16


def count(rows: Sequence[dict], classes: Sequence[str]) -> dict:
    """Return {split: counts} of the validated manifest's rows.

    The counts are of `pictures`, of `bad` and `left_out` ones, and of the `usable` ones a class; of the usable ones
    `imbalance` (largest over smallest class; null where one is empty), `shorter_side` in pixels and `brightness` (each
    least, median, largest) and `notes`, with the number of pictures that each is on. `duplicates` counts the pictures
    that show the same as an earlier one of the split, as one of another split, and as one of another class.
    """
    by_path = {row["path"]: row for row in rows}
    splits = [split for split in artifacts.SPLITS if any(row["split"] == split for row in rows)]
    return {split: _of_split([row for row in rows if row["split"] == split], classes, by_path) for split in splits}


def _of_split(rows: list[dict], classes: Sequence[str], by_path: dict[str, dict]) -> dict:
    usable = [row for row in rows if row["status"] == "ok"]
    sizes = Counter(row["class"] for row in usable)
    least = min(sizes[name] for name in classes)
    pairs = [(row, by_path[row["duplicate_of"]]) for row in rows if row.get("duplicate_of")]
    return {
        "pictures": len(rows),
        "bad": sum(row["status"] == "bad" for row in rows),
        "left_out": sum(row["status"] == "left out" for row in rows),
        "usable": {name: sizes[name] for name in classes},
        "imbalance": round(max(sizes[name] for name in classes) / least, 2) if least else None,
        "shorter_side": _spread([_shorter_side(row) for row in usable]),
        "brightness": _spread([row["brightness"] for row in usable]),
        "notes": dict(sorted(Counter(note for row in usable for note in row["notes"].split("; ") if note).items())),
        "duplicates": {
            "inside": sum(row["split"] == other["split"] for row, other in pairs),
            "across": sum(row["split"] != other["split"] for row, other in pairs),
            "of_another_class": sum(row["class"] != other["class"] for row, other in pairs),
        },
    }


def balance_table(counts: dict) -> list[dict]:
    """Return BALANCE_COLUMNS of the usable pictures: a row a split and class."""
    return [
        {"split": split, "class": name, "pictures": pictures}
        for split, row in counts.items()
        for name, pictures in row["usable"].items()
    ]


def brightness_table(rows: Sequence[dict]) -> list[dict]:
    """Return BRIGHTNESS_COLUMNS of the usable pictures: a row a split and bar, `brightness` is the bar's least."""
    levels = range(0, 256, BRIGHTNESS_STEP)
    return _histogram(rows, "brightness", levels, lambda row: int(row["brightness"]) // BRIGHTNESS_STEP)


def sizes_table(rows: Sequence[dict]) -> list[dict]:
    """Return SIZES_COLUMNS of the usable pictures: a row a split and doubling of the shorter side, by its least."""
    powers = [_shorter_side(row).bit_length() - 1 for row in rows if row["status"] == "ok"]
    if not powers:
        return []
    first = min(powers)
    bars = [1 << power for power in range(first, max(powers) + 1)]
    return _histogram(rows, "shorter_side", bars, lambda row: _shorter_side(row).bit_length() - 1 - first)


def _histogram(rows: Sequence[dict], name: str, bars: Sequence[int], bar: Callable[[dict], int]) -> list[dict]:
    counted = Counter((row["split"], bar(row)) for row in rows if row["status"] == "ok")
    splits = [split for split in artifacts.SPLITS if any(key[0] == split for key in counted)]
    return [
        {"split": split, name: least, "pictures": counted[split, number]}
        for split in splits
        for number, least in enumerate(bars)
    ]


def _shorter_side(row: dict) -> int:
    return min(row["width"], row["height"])


def _spread(values: list[float]) -> dict | None:
    if not values:
        return None
    return {"least": min(values), "median": float(np.median(values)), "largest": max(values)}
