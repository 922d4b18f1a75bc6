"""Opens every picture, and says of each whether it can be used, and if not, why.

Nothing is dropped in silence: the validated manifest has all rows of the manifest, the unusable ones with the status
`bad` and a reason. Limits on how many may be bad and how few a class may have fail the stage with the counts.
"""

import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from covpool import artifacts
from covpool.datasets.errors import DatasetError

#: Larger pictures are taken for decompression bombs: 16 times a 4K frame.
MAX_PIXELS = 16 * 3840 * 2160
MIN_SIDE = 16


def validate(raw, manifest, counts_file, limits, classes, progress=None):
    """Decode all pictures of `raw` and write the validated manifest and the counts.

    raw: folder with `manifest.csv`; manifest, counts_file: files to write; limits: `params.Validate`; classes: names;
    progress: called with (done, total).

    Returns the counts. Raises DatasetError where the limits are broken, after both files are written.
    """
    raw = Path(raw)
    rows = artifacts.read_csv(raw / "manifest.csv", artifacts.MANIFEST_COLUMNS)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = pool.map(partial(inspect, raw), [row["path"] for row in rows], chunksize=16)
        for done, (row, facts) in enumerate(zip(rows, found), 1):
            row.update(facts)
            if progress:
                progress(done, len(rows))
    artifacts.write_csv(manifest, artifacts.VALIDATED_COLUMNS, rows)
    counts = count(rows, classes)
    artifacts.write_json(counts_file, counts)
    check_limits(rows, counts, limits)
    return counts


def inspect(folder, path):
    """What a picture is: `width`, `height`, `mode`, `status` (ok or bad) and `reason`."""
    facts = {"status": "bad"}
    try:
        # A bomb's warning becomes an error here; the size in the header is judged before the pixels are read.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(Path(folder) / path) as image:
                facts.update(width=image.width, height=image.height, mode=image.mode)
                if image.width * image.height > MAX_PIXELS:
                    return dict(facts, reason="larger than {} pixels".format(MAX_PIXELS))
                if min(image.size) < MIN_SIDE:
                    return dict(facts, reason="a side below {} pixels".format(MIN_SIDE))
                image.load()
    except Exception as error:  # Pillow's decoders raise many kinds; any means that this file can't be read
        return dict(facts, reason="{}: {}".format(type(error).__name__, error).replace(str(folder), "")[:200])
    return dict(facts, status="ok", reason="")


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
        raise DatasetError(
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
        raise DatasetError(
            "classes with fewer usable pictures than validate.min_images_per_class ({}): {}".format(
                limits.min_images_per_class, ", ".join(few)
            )
        )
