"""The validate stage: reads a manifest and writes a validated manifest, counts, and tables for plots.

No picture is dropped silently. The validated manifest has all rows of the manifest: unusable pictures have the status
`bad` and a reason, pictures that a policy leaves out have the status `left out` and a reason. The stage fails, with the
counts, if too many pictures are bad or a class has too few.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from covpool.config import Validate
from covpool.pipeline import artifacts, process_pool
from covpool.pipeline.cores import usable_cores
from covpool.validation import counts, duplicates
from covpool.validation.errors import ValidationError
from covpool.validation.inspection import inspect


def validate(
    raw: Path,
    target: Path,
    options: Validate,
    class_names: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> dict:
    """Inspect all pictures of `raw` and write the results into `target`.

    The results are `manifest.csv` (artifacts.VALIDATED_COLUMNS), `counts.json` (see `counts.count`), and `balance.csv`,
    `brightness.csv` and `sizes.csv` of the usable pictures.

    Args:
        raw: Folder with `manifest.csv` and the pictures.
        target: Folder for the results.
        options: The section `validate` of params.yaml.
        class_names: The names of all classes.
        progress: Called with the number of inspected pictures and of all pictures.
        workers: Number of processes, by default one per core.

    Returns:
        The counts, see `counts.count`.

    Raises:
        ValidationError: The data set breaks a limit or the policy on duplicates. The results are written nevertheless.
    """
    rows = artifacts.read_csv(Path(raw) / "manifest.csv", artifacts.MANIFEST_COLUMNS)
    hashes = []
    findings = process_pool.ordered_map(partial(inspect, Path(raw)), rows, workers or usable_cores())
    with contextlib.closing(findings):
        for done, (row, finding) in enumerate(zip(rows, findings, strict=True), 1):
            row.update(finding.columns)
            hashes.append(finding.hashes)
            if progress:
                progress(done, len(rows))
    found = duplicates.find_duplicates(rows, hashes, options.near_distance)
    duplicates.mark(rows, found, options.duplicates)
    counted = counts.count(rows, class_names)
    artifacts.write_csv(target / "manifest.csv", artifacts.VALIDATED_COLUMNS, rows)
    artifacts.write_json(target / "counts.json", counted)
    artifacts.write_csv(target / "balance.csv", counts.BALANCE_COLUMNS, counts.balance_table(counted))
    artifacts.write_csv(target / "brightness.csv", counts.BRIGHTNESS_COLUMNS, counts.brightness_table(rows))
    artifacts.write_csv(target / "sizes.csv", counts.SIZES_COLUMNS, counts.sizes_table(rows))
    check_limits(rows, counted, options)
    if options.duplicates == "fail":
        duplicates.refuse_shared(rows, found)
    return counted


def check_limits(rows: Sequence[dict], counted: dict, limits: Validate) -> None:
    """Check the limits on bad pictures and on the size of classes.

    Args:
        rows: The rows of the validated manifest.
        counted: The result of `counts.count`.
        limits: The section `validate` of params.yaml.

    Raises:
        ValidationError: Too many pictures are bad, or a class has too few usable ones.
    """
    bad = [row for row in rows if row["status"] == "bad"]
    if len(bad) > limits.max_bad_fraction * len(rows):
        examples = "\n".join(f"  {row['path']}: {row['reason']}" for row in bad[:10])
        raise ValidationError(
            f"{len(bad)} of {len(rows)} pictures can't be used, more than validate.max_bad_fraction "
            f"({limits.max_bad_fraction}) allows:\n{examples}" + ("\n  ..." if len(bad) > 10 else "")
        )
    few = [
        f"{split}/{name} has {number}"
        for split, row in counted.items()
        for name, number in row["usable"].items()
        if number < limits.min_images_per_class
    ]
    if few:
        raise ValidationError(
            f"expected at least validate.min_images_per_class ({limits.min_images_per_class}) usable pictures of each "
            f"class, got fewer: {', '.join(few)}{_advice(rows, counted)}"
        )


def _advice(rows: Sequence[dict], counted: dict) -> str:
    """Return advice if the data set has no pictures at all of some classes, else ''."""
    found = {row["class"] for row in rows}
    names = next(iter(counted.values()))["usable"]
    present = [name for name in names if name in found]
    if len(present) == len(names) or len(present) < 2:
        return ""
    return f". For the classes that are there, set dataset.classes=[{', '.join(present)}]"


def describe(counted: dict) -> str:
    """Return the counts of one split in words."""
    found = [f"{counted['pictures']} pictures, {counted['bad']} of them bad"]
    twice = counted["duplicates"]
    for number, words in (
        (counted["left_out"], "left out"),
        (twice["across"], "also in another split"),
        (twice["inside"], "twice in the split"),
        (twice["of_another_class"], "also under another class"),
    ):
        if number:
            found.append(f"{number} {words}")
    return ", ".join(found)
