"""Finds the pictures of a source, with their splits and classes, by the layout of each kind of data set.

Each kind of layout has one function. It finds split and class from file names and lists alone, so that errors in the
layout are found before any picture is read. Numeric labels become class names at once (`covpool.config.vocabulary`).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from covpool.config import Dataset, vocabulary
from covpool.datasets import fer2013, names
from covpool.datasets.callbacks import Say
from covpool.datasets.errors import DatasetError
from covpool.datasets.places import Pictures, Place, check_splits, expected_layout, report_files, report_skipped
from covpool.datasets.sources import SingleFile, Source, read_text
from covpool.datasets.splits import stratified_split
from covpool.pipeline import artifacts

#: Names of splits in data sets, in any case, and the project's names for them.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

#: The labels of RAF-DB (reference: the list that comes with it).
RAFDB_LABELS = dict(enumerate(("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), 1))


def pictures_of(source: Source, settings: Dataset, say: Say) -> tuple[int | None, Pictures]:
    """Find the pictures of a source, with their splits and classes.

    Args:
        source: The files of the data set.
        settings: The section `dataset` of params.yaml.
        say: Called with a line of text on each thing that was skipped or decided.

    Returns:
        The number of pictures (None if it is not known), and an iterator of (Place, stream).

    Raises:
        DatasetError: The source does not have the layout of `settings.kind`.
    """
    if settings.kind == "fer2013":
        return None, fer2013.pictures_of(source, settings, say)
    places = _rafdb(source, settings, say) if settings.kind == "rafdb" else _folders(source, settings, say)
    by_source = {place.source: place for place in _with_own_names(places, say)}
    return len(by_source), ((by_source[name], stream) for name, stream in source.read_files(by_source))


def _with_own_names(places: list[Place], say: Say) -> list[Place]:
    """Rename pictures that would get the same path (`joy/1.png`, `happy/1.png`); the first keeps its name."""
    taken, own, renamed = {place.path for place in places}, [], []
    seen = set()
    for place in sorted(places, key=lambda place: place.source):
        if place.path in seen:
            original = PurePosixPath(place.source)
            # File systems allow names of at most 255 bytes.
            stem = _cut(original.stem, 120) + "-" + _cut(original.parent.name, 60)
            numbers = ("", *(f"-{number}" for number in range(2, len(places) + 2)))
            made = (replace(place, file=f"{stem}{number}{original.suffix}") for number in numbers)
            place = next(candidate for candidate in made if candidate.path not in taken)
            taken.add(place.path)
            renamed.append(f"{place.source} -> {place.path}")
        seen.add(place.path)
        own.append(place)
    report_files(
        say, renamed, "pictures were renamed, because several folders of one class have files with the same name"
    )
    return own


def _cut(name: str, most: int) -> str:
    """Return the beginning of a name, with at most `most` bytes."""
    return name.encode()[:most].decode(errors="ignore")


def _folders(source: Source, settings: Dataset, say: Say) -> list[Place]:
    """Find the pictures of the kinds folder, sfew_100 and sfew: their folders are named by split and class."""
    files = source.files()
    pictures = [name for name in files if names.is_picture(name) and not names.is_clutter(name)]
    if isinstance(source, SingleFile):
        raise DatasetError(
            f"{source.path} is not a folder, a zip archive or a tar archive: {expected_layout(settings.kind)}"
        )
    if not pictures:
        raise DatasetError(f"{source.path} has no pictures: {expected_layout(settings.kind)}")
    root = _root(pictures, settings.classes)
    by_split = _has_splits(source, settings.kind, pictures, root)
    unlabelled = {name for name in pictures if settings.kind == "sfew" and _is_unlabelled(name[len(root) :])}
    report_files(
        say, sorted(unlabelled), "pictures of the test split were skipped, because its labels are not published"
    )
    report_skipped(say, set(files) - set(pictures))
    labelled = [name for name in pictures if name not in unlabelled]
    _check_classes(source, settings, labelled, root, by_split)
    places = [_placed(settings, name, root, by_split) for name in labelled]
    if not by_split:
        places = _divided(source, settings, places, settings.split.val, settings.split.test, say)
    elif settings.kind == "folder":
        places = _with_val(source, settings, places, say)
    check_splits(source, settings, {place.split for place in places})
    return places


def _root(pictures: list[str], class_names: Sequence[str]) -> str:
    """Return the folders above the splits or classes, which all pictures share, as a prefix of their paths."""
    root = ""
    while True:
        first = {name[len(root) :].split("/")[0] for name in pictures}
        if len(first) > 1 or any(name.count("/", len(root)) < 2 for name in pictures):
            return root
        (folder,) = first
        if folder.casefold() in SPLIT_NAMES or _known(folder, class_names):
            return root
        root += folder + "/"


def _known(name: str, class_names: Sequence[str]) -> bool:
    """Return whether the name is a name of a class."""
    try:
        vocabulary.class_named(name, class_names)
    except vocabulary.UnknownClass:
        return False
    return True


def _has_splits(source: Source, kind: str, pictures: list[str], root: str) -> bool:
    """Return whether the first folders are splits; raise DatasetError if only some are, or if the kind needs them."""
    first = {name[len(root) :].split("/")[0] for name in pictures if "/" in name[len(root) :]}
    others = sorted(name for name in first if name.casefold() not in SPLIT_NAMES)
    if others and (kind != "folder" or len(others) < len(first)):
        raise DatasetError(
            f"{source.path}: {root}{others[0]} is not a split: expected folders "
            f"{', '.join(sorted(SPLIT_NAMES))} (any case)."
        )
    return not others


def _is_unlabelled(name: str) -> bool:
    """Return whether a picture lies directly in the folder of the test split."""
    return name.count("/") == 1 and SPLIT_NAMES.get(name.split("/")[0].casefold()) == "test"


def _check_classes(source: Source, settings: Dataset, pictures: list[str], root: str, by_split: bool) -> None:
    """Raise DatasetError if a picture lies at the wrong level, or in a folder that does not name a class."""
    unknown, found = {}, set()
    for name in pictures:
        parts = name[len(root) :].split("/")
        if len(parts) != (3 if by_split else 2):
            level = "<split>/<class>/<picture>" if by_split else "<class>/<picture>"
            raise DatasetError(
                f"{source.path}: {name} does not lie at {level} (below {root or 'the top'}): move it there, or out."
            )
        try:
            found.add(vocabulary.class_named(parts[-2], settings.classes))
        except vocabulary.UnknownClass as error:
            found.add(parts[-2])
            unknown.setdefault(name.rsplit("/", 1)[0], error)
    if unknown:
        folder, error = next(iter(unknown.items()))
        classes = sorted(found)
        usable = len(classes) > 1 and not any(map(vocabulary.name_fault, classes))
        usable = usable and not vocabulary.same_classes(classes)
        advice = f" For the classes that are here, set dataset.classes=[{', '.join(classes)}]." if usable else ""
        raise DatasetError(f"{source.path}: {folder}: {error}{advice}")


def _placed(settings: Dataset, name: str, root: str, by_split: bool) -> Place:
    """Return the place of a picture by the folders of its path."""
    parts = name[len(root) :].split("/")
    label = vocabulary.class_named(parts[-2], settings.classes)
    return Place(name, SPLIT_NAMES[parts[0].casefold()] if by_split else "", label, _subject(settings, parts[-1]))


def _subject(settings: Dataset, name: str) -> str:
    """Return the person whom the pattern `dataset.split.subject` finds in the file name, or ''."""
    match = settings.split.subject and re.search(settings.split.subject, name, re.IGNORECASE)
    return (match.group(1) if match.re.groups else match.group()) or "" if match else ""


def _divided(source: Source, settings: Dataset, places: list[Place], val: float, test: float, say: Say) -> list[Place]:
    """Choose val and test among `places` by the seed; pictures of one subject stay together."""
    split = stratified_split(
        [(place.source, place.label, place.subject) for place in places], val, test, settings.split.seed
    )
    absent = [name for name, share in (("val", val), ("test", test)) if share and name not in split.values()]
    if absent:
        raise DatasetError(
            f"{source.path}: there are too few pictures ({len(places)}) or too few subjects to take "
            f"{' and '.join('dataset.split.' + name for name in absent)} of each class"
        )
    subjects = {place.subject for place in places if place.subject}
    named = sum(bool(place.subject) for place in places)
    counts = Counter(split.values())
    say(
        "split by dataset.split.seed: {}; {}".format(
            ", ".join(f"{counts[name]} {name}" for name in artifacts.SPLITS if counts[name]),
            f"{len(subjects)} subjects, read from the names of {named} of {len(places)} pictures, stay together"
            if named
            else "no subjects were found in the file names (dataset.split.subject)",
        )
    )
    return [replace(place, split=split[place.source]) for place in places]


def _with_val(source: Source, settings: Dataset, places: list[Place], say: Say) -> list[Place]:
    """Take val from train if a data set has only train and test."""
    if any(place.split == "val" for place in places):
        return places
    train = [place for place in places if place.split == "train"]
    others = [place for place in places if place.split != "train"]
    return others + _divided(source, settings, train, settings.split.val, 0, say) if train else places


def _rafdb(source: Source, settings: Dataset, say: Say) -> list[Place]:
    """Find the pictures of RAF-DB basic: a list of names and labels, and the aligned pictures. Val is part of train."""
    files = source.files()
    lists = [name for name in files if names.folded(name).endswith("list_patition_label.txt")]
    lists = [name for name in lists if not names.is_clutter(name)]
    if len(lists) != 1:
        found = " and ".join(lists) or "no list"
        raise DatasetError(f"{source.path} has {found}: {expected_layout('rafdb')}")
    root = "".join(part + "/" for part in PurePosixPath(lists[0]).parent.parent.parts)
    present, places, absent, lines = set(files), [], [], {}
    for number, line in enumerate(read_text(source, lists[0]).splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*((train|test)_\w+)\.jpg\s+([1-7])\s*", line, re.ASCII)
        if not match:
            raise DatasetError(
                f"{source.path}: {lists[0]}:{number}: expected a name train_NNNNN.jpg or test_NNNNN.jpg and a label "
                f"from 1 to 7, got {line[:80]!r}"
            )
        name, split, label = match.groups()
        if lines.setdefault(name, number) != number:
            raise DatasetError(
                f"{source.path}: {lists[0]}: {name}.jpg is listed twice, in lines {lines[name]} and {number}"
            )
        path = f"{root}Image/aligned/{name}_aligned.jpg"
        (absent if path not in present else places).append(
            Place(path, split, vocabulary.class_named(RAFDB_LABELS[int(label)], settings.classes))
        )
    if absent:
        packed = f"{root}Image/aligned.zip"
        hint = f"unpack {packed} there" if packed in present else expected_layout("rafdb")
        raise DatasetError(
            f"{source.path}: {len(absent)} pictures of the list are missing, the first is {absent[0].source}: {hint}"
        )
    others = present - {place.source for place in places} - set(lists)
    unlisted = {name for name in others if names.is_picture(name) and not names.is_clutter(name)}
    report_files(say, sorted(unlisted), "pictures that are not in the list were skipped")
    report_skipped(say, others - unlisted)
    places = _with_val(source, settings, places, say)
    check_splits(source, settings, {place.split for place in places})
    return places
