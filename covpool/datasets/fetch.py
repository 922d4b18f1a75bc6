"""Brings a data set into the pipeline's layout, `<split>/<class>/<file>`, and lists it in a manifest.

Whatever the source calls its splits and classes, the names here are the canonical ones (`covpool.classes`), so that
later stages never meet another order of labels. Pictures are copied byte for byte and never opened here.
"""

import shutil
from pathlib import Path

from covpool import artifacts, classes
from covpool.datasets.errors import DatasetError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

#: Names of splits, as data sets write them in any case -> ours.
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

#: The splits that a kind of data set must have.
NEEDED_SPLITS = ("train", "val")


def fetch(settings, target, progress=None):
    """Make `target`: pictures by split and class, and `manifest.csv`.

    settings: `params.Dataset`; target: a folder, made anew; progress: called with (done, total).

    Returns the manifest's rows. Raises DatasetError where the source is missing or not laid out as its kind says.
    """
    target = Path(target)
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    rows = _rendered(settings, target, progress) if settings.kind == "rendered" else _copied(settings, target, progress)
    rows.sort(key=lambda row: row["path"])
    for row in rows:
        row["sha256"] = artifacts.sha256_file(target / row["path"])
    artifacts.write_csv(target / "manifest.csv", artifacts.MANIFEST_COLUMNS, rows)
    return rows


def missing_source(settings):
    """What is wrong where the local source of `params.Dataset` is not there, and what to do; "" where it is."""
    path = Path(settings.source)
    if path.is_dir():
        return ""
    layout = "the recipes of the drawn faces" if settings.kind == "rendered" else LAYOUTS[settings.kind]
    return "dataset.source: {} is no folder: wanted {}.{}".format(path, layout, LICENCE.get(settings.kind, ""))


def _rendered(settings, target, progress):
    # The renderer loads slowly and is wanted by this kind alone.
    from covpool.datasets import rendered

    options = settings.rendered
    pictures = rendered.render_dataset(
        target, train=options.train, val=options.val, test=options.test, pictures=options.pictures,
        image_size=options.image_size, seed=options.seed, progress=progress,
    )  # fmt: skip
    return [
        {"path": picture.path, "split": picture.split, "class": picture.label, "subject": picture.identity,
         "source": "rendered"}
        for picture in pictures if picture.label in settings.classes
    ]  # fmt: skip


def _copied(settings, target, progress):
    source = Path(settings.source)
    found = list_pictures(source, settings.classes, settings.kind)
    rows = []
    for index, (path, split, name) in enumerate(found, 1):
        place = Path(split) / name / path.name
        if (target / place).exists():
            raise DatasetError(
                "two pictures would be {}: the second is {}. Folders that mean one class must not share file "
                "names; rename one of them.".format(place, path)
            )
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / place)
        rows.append({
            "path": place.as_posix(), "split": split, "class": name, "source": path.relative_to(source).as_posix()
        })  # fmt: skip
        if progress:
            progress(index, len(found))
    return rows


def list_pictures(source, class_names, kind):
    """All pictures of a folder `<split>/<class>/*`: (path, split, class), in the order of their paths.

    kind: `folder`, or `sfew_100`, the layout of the published port (`Train` and `val`, 7 classes); they differ in
    what an error says is wanted. Files that are no pictures by their ending are passed over.
    """
    source = Path(source)
    layout = LAYOUTS[kind]
    if not source.is_dir():
        raise DatasetError(
            "dataset.source is {}, which is no folder: wanted one laid out as {}.{}".format(
                source, layout, LICENCE[kind]
            )
        )
    found = []
    for split_folder in sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith(".")):
        split = SPLIT_NAMES.get(split_folder.name.casefold())
        if split is None:
            raise DatasetError(
                "{} is no split: wanted folders {} in {} (any case).".format(
                    split_folder, ", ".join(sorted(SPLIT_NAMES)), source
                )
            )
        for class_folder in sorted(path for path in split_folder.iterdir() if path.is_dir()):
            try:
                name = classes.class_named(class_folder.name, class_names)
            except classes.UnknownClass as error:
                raise DatasetError("{}: {}".format(class_folder, error)) from None
            pictures = (path for path in class_folder.iterdir() if path.suffix.casefold() in PICTURE_SUFFIXES)
            found += [(path, split, name) for path in sorted(pictures)]
    missing = [split for split in NEEDED_SPLITS if not any(split == row[1] for row in found)]
    if missing:
        raise DatasetError(
            "{} has no pictures for {}: wanted {}.{}".format(source, " and ".join(missing), layout, LICENCE[kind])
        )
    return found


LAYOUTS = {"folder": "train|val[|test]/<class>/*", "sfew_100": "Train|val/<class>/*.png"}

#: Where a data set under a licence is asked for.
LICENCE = {
    "folder": "",
    "sfew_100": " SFEW is given to researchers who sign its licence: https://cs.anu.edu.au/few/ tells how.",
}
