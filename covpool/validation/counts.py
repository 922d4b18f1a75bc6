"""Counts of the validated manifest, for a metrics file and for tables that DVC plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from covpool.pipeline import artifacts

BALANCE_COLUMNS = ("split", "class", "pictures")
BRIGHTNESS_COLUMNS = ("split", "brightness", "pictures")
SIZES_COLUMNS = ("split", "shorter_side", "pictures")

#: Width of one bar in the histogram of brightness, in grey levels.
BRIGHTNESS_STEP = 16


def count(rows: Sequence[dict], class_names: Sequence[str]) -> dict:
    """Count the pictures of each split.

    Args:
        rows: The rows of the validated manifest.
        class_names: The names of all classes.

    Returns:
        {split: counts}. The counts of a split are:

        - `pictures`, `bad`, `left_out`: numbers of pictures.
        - `usable`: {class: number of usable pictures}.
        - `imbalance`: the largest class over the smallest; None if a class is empty.
        - `shorter_side` (pixels) and `brightness` (grey levels, 0 to 255) of the usable pictures: `least`, `median`
          and `largest`; None if there are no usable pictures.
        - `notes`: {note: number of usable pictures with it}.
        - `duplicates`: numbers of pictures that show the same as an earlier picture of the split (`inside`), as one of
          another split (`across`), and as one of another class (`of_another_class`).
    """
    by_path = {row["path"]: row for row in rows}
    splits = [split for split in artifacts.SPLITS if any(row["split"] == split for row in rows)]
    return {split: _of_split([row for row in rows if row["split"] == split], class_names, by_path) for split in splits}


def _of_split(rows: list[dict], class_names: Sequence[str], by_path: dict[str, dict]) -> dict:
    """Count the pictures of one split."""
    usable = [row for row in rows if row["status"] == "ok"]
    sizes = Counter(row["class"] for row in usable)
    smallest = min(sizes[name] for name in class_names)
    pairs = [(row, by_path[row["duplicate_of"]]) for row in rows if row.get("duplicate_of")]
    return {
        "pictures": len(rows),
        "bad": sum(row["status"] == "bad" for row in rows),
        "left_out": sum(row["status"] == "left out" for row in rows),
        "usable": {name: sizes[name] for name in class_names},
        "imbalance": round(max(sizes[name] for name in class_names) / smallest, 2) if smallest else None,
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
    """Return the usable pictures of each split and class, as rows with BALANCE_COLUMNS.

    Args:
        counts: The result of `count`.
    """
    return [
        {"split": split, "class": name, "pictures": pictures}
        for split, row in counts.items()
        for name, pictures in row["usable"].items()
    ]


def brightness_table(rows: Sequence[dict]) -> list[dict]:
    """Return a histogram of the brightness of usable pictures, as rows with BRIGHTNESS_COLUMNS.

    There is one row for each split and bar. `brightness` is the lower end of the bar.
    """
    levels = range(0, 256, BRIGHTNESS_STEP)
    return _histogram(rows, "brightness", levels, lambda row: int(row["brightness"]) // BRIGHTNESS_STEP)


def sizes_table(rows: Sequence[dict]) -> list[dict]:
    """Return a histogram of the shorter side of usable pictures, as rows with SIZES_COLUMNS.

    Each bar reaches from a power of two to the next. `shorter_side` is its lower end, in pixels.
    """
    powers = [_shorter_side(row).bit_length() - 1 for row in rows if row["status"] == "ok"]
    if not powers:
        return []
    first = min(powers)
    bars = [1 << power for power in range(first, max(powers) + 1)]
    return _histogram(rows, "shorter_side", bars, lambda row: _shorter_side(row).bit_length() - 1 - first)


def _histogram(rows: Sequence[dict], name: str, bars: Sequence[int], bar: Callable[[dict], int]) -> list[dict]:
    """Count usable pictures by split and bar; `bars` are the lower ends, `bar` gives the number of a row's bar."""
    counted = Counter((row["split"], bar(row)) for row in rows if row["status"] == "ok")
    splits = [split for split in artifacts.SPLITS if any(key[0] == split for key in counted)]
    return [
        {"split": split, name: lower_end, "pictures": counted[split, number]}
        for split in splits
        for number, lower_end in enumerate(bars)
    ]


def _shorter_side(row: dict) -> int:
    return min(row["width"], row["height"])


def _spread(values: list[float]) -> dict | None:
    if not values:
        return None
    return {"least": min(values), "median": float(np.median(values)), "largest": max(values)}
