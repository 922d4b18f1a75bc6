"""Opens every picture, and says of each whether it can be used, and if not, why.

Nothing is dropped in silence: the validated manifest has all rows of the manifest, the unusable ones with the status
`bad` and a reason. Limits on how many may be bad and how few a class may have fail the stage with the counts.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from covpool import artifacts, processes
from covpool.params import Validate
from covpool.validation.errors import ValidationError
from covpool.validation.inspection import inspect


def validate(
    raw: Path,
    manifest: Path,
    counts_file: Path,
    limits: Validate,
    classes: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> dict:
    """Decode all pictures of `raw` and write the validated manifest and the counts.

    raw: folder with `manifest.csv`; manifest, counts_file: files to write; progress: called with (done, total);
    workers: processes, by default one a core.

    Returns the counts. Raises ValidationError where the limits are broken, after both files are written.
    """
    rows = artifacts.read_csv(Path(raw) / "manifest.csv", artifacts.MANIFEST_COLUMNS)
    findings = processes.ordered_map(partial(inspect, Path(raw)), rows, workers or processes.usable_cores())
    with contextlib.closing(findings):
        for done, (row, facts) in enumerate(zip(rows, findings, strict=True), 1):
            row.update(facts)
            if progress:
                progress(done, len(rows))
    artifacts.write_csv(manifest, artifacts.VALIDATED_COLUMNS, rows)
    counts = count(rows, classes)
    artifacts.write_json(counts_file, counts)
    check_limits(rows, counts, limits)
    return counts


def count(rows, classes):
    """Counts: pictures and bad ones, a split; usable ones a class."""
    splits = [split for split in artifacts.SPLITS if any(row["split"] == split for row in rows)]
    usable = Counter((row["split"], row["class"]) for row in rows if row["status"] == "ok")
    return {
        split: {
            "pictures": sum(row["split"] == split for row in rows),
            "bad": sum(row["split"] == split and row["status"] != "ok" for row in rows),
            "usable": {name: usable[split, name] for name in classes},
        }
        for split in splits
    }


def check_limits(rows, counts, limits):
    bad = [row for row in rows if row["status"] != "ok"]
    if len(bad) > limits.max_bad_fraction * len(rows):
        examples = "\n".join("  {}: {}".format(row["path"], row["reason"]) for row in bad[:10])
        raise ValidationError(
            "{} of {} pictures can't be used, more than validate.max_bad_fraction ({}) allows:\n{}{}".format(
                len(bad), len(rows), limits.max_bad_fraction, examples, "\n  ..." if len(bad) > 10 else ""
            )
        )
    few = [
        "{}/{} has {}".format(split, name, number)
        for split, row in counts.items()
        for name, number in row["usable"].items()
        if number < limits.min_images_per_class
    ]
    if few:
        raise ValidationError(
            "classes with fewer usable pictures than validate.min_images_per_class ({}): {}".format(
                limits.min_images_per_class, ", ".join(few)
            )
        )
