"""Brings a data set into the pipeline's layout, `<split>/<class>/<file>`, and lists it in a manifest.

Whatever the source calls its splits and classes, the names here are the canonical ones (`covpool.classes`), so that
later stages never meet another order of labels. Pictures are copied byte for byte and never opened here; FER2013's,
which are numbers in a table, become PNGs.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from covpool import artifacts, classes
from covpool.datasets.errors import DatasetError
from covpool.datasets.layouts import pictures_of, wanted_layout
from covpool.datasets.sources import open_source

BLOCK = 1 << 20


def fetch(
    settings,
    target: Path,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    say: Callable[[str], None] = print,
) -> list[dict[str, str]]:
    """Make `target`: pictures by split and class, and `manifest.csv`.

    settings: `params.Dataset`; target: a folder, made anew, and removed where the fetch fails; progress: called with
    (done, total or None); say: is told, a line each, what was passed over or decided.

    Returns the manifest's rows. Raises DatasetError where the source is missing, hostile or not laid out as its kind
    says.
    """
    target = Path(target)
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    try:
        make = _rendered if settings.kind == "rendered" else _copied
        rows = make(settings, target, progress or (lambda done, total: None), say)
        rows.sort(key=lambda row: row["path"])
        artifacts.write_csv(target / "manifest.csv", artifacts.MANIFEST_COLUMNS, rows)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return rows


def missing_source(settings) -> str:
    """What is wrong where the local source of `params.Dataset` is not there, and what to do; '' where it is."""
    path = Path(settings.source)
    if path.exists():
        return ""
    advice = "it is part of the project; `git checkout` it" if settings.kind == "rendered" else ""
    return f"dataset.source: {path} does not exist: {advice or wanted_layout(settings.kind)}"


def _rendered(settings, target: Path, progress, say) -> list[dict[str, str]]:
    # The renderer loads slowly and is wanted by this kind alone.
    from covpool.datasets import rendered

    options = settings.rendered
    labels = {classes.class_named(name, rendered.CLASSES): name for name in settings.classes}
    pictures = rendered.render_dataset(
        target, train=options.train, val=options.val, test=options.test, pictures=options.pictures,
        image_size=options.image_size, seed=options.seed, classes=tuple(labels), progress=progress,
    )  # fmt: skip
    for folder in sorted(target.glob("*/*")):
        if folder.name != labels[folder.name]:
            folder.rename(folder.with_name(labels[folder.name]))
    rows = []
    for picture in pictures:
        label = labels[picture.label]
        path = f"{picture.split}/{label}/{Path(picture.path).name}"
        rows.append({
            "path": path, "split": picture.split, "class": label, "subject": str(picture.identity),
            "source": "rendered", "sha256": artifacts.sha256_file(target / path),
        })  # fmt: skip
    return rows


def _copied(settings, target: Path, progress, say) -> list[dict[str, str]]:
    absent = missing_source(settings)
    if absent:
        raise DatasetError(absent)
    rows = []
    with contextlib.closing(open_source(Path(settings.source), settings.limits)) as source:
        total, pictures = pictures_of(source, settings, say)
        for place, stream in pictures:
            rows.append({
                "path": place.path, "split": place.split, "class": place.label, "subject": place.subject,
                "source": place.source, "sha256": _copy(stream, target / place.path),
            })  # fmt: skip
            progress(len(rows), total)
    if not rows:
        raise DatasetError(f"{settings.source} has no pictures: {wanted_layout(settings.kind)}")
    return rows


def _copy(stream: BinaryIO, path: Path) -> str:
    """Write the stream to a new file; return the SHA-256 of its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open(path, "xb") as copy:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()
