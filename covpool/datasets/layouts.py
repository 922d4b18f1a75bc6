"""Where each kind of data set keeps its splits and classes: from the files of a source to the pictures in it.

A kind is a function (source, settings, say) -> (number of pictures or None, iterator of `Picture`). It decides by names
and lists alone which picture is of which split and class, so that what doesn't fit is told before any picture is read.
Labels that are numbers become names at once (`covpool.config.vocabulary`).
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image

from covpool.config import vocabulary
from covpool.datasets import names
from covpool.datasets.errors import DatasetError
from covpool.datasets.sources import SingleFile, read_text
from covpool.datasets.splits import stratified_split
from covpool.pipeline import artifacts

#: Names of splits, as data sets write them in any case -> ours.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

#: Training, and choosing the best checkpoint, need these.
NEEDED_SPLITS = ("train", "val")

#: Folder layouts as an error shows them.
LAYOUTS = {
    "folder": "train|val[|test]/<class>/*, or <class>/* to be split here",
    "sfew_100": "Train|val/<class>/*.png",
    "sfew": "Train|Val/<class>/*.png",
    "rafdb": "EmoLabel/list_patition_label.txt and Image/aligned/{train,test}_NNNNN_aligned.jpg",
    "fer2013": "fer2013.csv with the columns emotion, pixels and Usage",
}

#: Where a data set under a licence is asked for.
SFEW = "SFEW is given to researchers who sign its licence: https://cs.anu.edu.au/few/ tells how."
LICENCES = {
    "sfew_100": SFEW,
    "sfew": SFEW,
    "rafdb": "RAF-DB is given to researchers who ask for it: http://www.whdeng.cn/RAF/model1.html tells how.",
    "fer2013": "FER2013 is at https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-"
    "recognition-challenge, after accepting the rules there.",
}

#: RAF-DB's and FER2013's numbers (reference: the lists that come with them).
RAFDB_LABELS = dict(enumerate(("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), 1))
FER2013_LABELS = dict(enumerate(("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")))
FER2013_SPLITS = {"training": "train", "publictest": "val", "privatetest": "test"}
FER2013_SIDE = 48
#: A row has 2,304 numbers of up to three digits.
FER2013_LINE = 1 << 15


@dataclass(frozen=True)
class Place:
    """A picture of the source, and where it belongs."""

    source: str
    split: str
    label: str
    subject: str = ""
    file: str = ""  # its name here, where it is not the one that it has in the source

    @property
    def path(self) -> str:
        return f"{self.split}/{self.label}/{self.file or PurePosixPath(self.source).name}"


Pictures = Iterator[tuple[Place, BinaryIO]]


def wanted_layout(kind: str) -> str:
    """How a source of this kind is laid out, and where its data is asked for."""
    return " ".join(filter(None, (f"wanted {LAYOUTS[kind]}.", LICENCES.get(kind))))


def pictures_of(source, settings, say: Callable[[str], None]) -> tuple[int | None, Pictures]:
    """The pictures of a source: their number where it is known, and an iterator of places and streams.

    settings: `config.Dataset`; say: is told, a line each, what was passed over or decided.

    Raises DatasetError where the source is not laid out as `settings.kind` says.
    """
    if settings.kind == "fer2013":
        return None, _fer2013(source, settings, say)
    places = _rafdb(source, settings, say) if settings.kind == "rafdb" else _folders(source, settings, say)
    by_source = {place.source: place for place in _without_clashes(source, places)}
    return len(by_source), ((by_source[name], stream) for name, stream in source.read_files(by_source))


def _without_clashes(source, places: list[Place]) -> list[Place]:
    taken = {}
    for place in places:
        other = taken.setdefault(place.path, place)
        if other is not place:
            raise DatasetError(
                f"{source.path}: two pictures would be {place.path}: {other.source} and {place.source}. Folders that "
                "mean one class must not share file names; rename one of them."
            )
    return places


def _folders(source, settings, say) -> list[Place]:
    """The kinds folder, sfew_100 and sfew: pictures below folders that are named by split and class."""
    files = source.files()
    pictures = [name for name in files if names.is_picture(name) and not names.is_clutter(name)]
    if isinstance(source, SingleFile):
        raise DatasetError(f"{source.path} is neither folder nor zip nor tar: {wanted_layout(settings.kind)}")
    if not pictures:
        raise DatasetError(f"{source.path} has no pictures: {wanted_layout(settings.kind)}")
    root = _root(pictures, settings.classes)
    by_split = _has_splits(source, settings.kind, pictures, root)
    unlabelled = {name for name in pictures if settings.kind == "sfew" and _is_unlabelled(name[len(root) :])}
    _tell(say, sorted(unlabelled), "pictures of the test split, whose labels are not given out, were passed over")
    _tell_passed_over(say, set(files) - set(pictures))
    places = [_placed(source, settings, name, root, by_split) for name in pictures if name not in unlabelled]
    if not by_split:
        places = _divided(source, settings, places, settings.split.val, settings.split.test, say)
    elif settings.kind == "folder":
        places = _with_val(source, settings, places, say)
    _check_splits(source, settings, {place.split for place in places})
    return places


def _root(pictures: list[str], class_names) -> str:
    """The folders that all pictures share above their splits or classes, as a prefix."""
    root = ""
    while True:
        first = {name[len(root) :].split("/")[0] for name in pictures}
        if len(first) > 1 or any(name.count("/", len(root)) < 2 for name in pictures):
            return root
        (folder,) = first
        if folder.casefold() in SPLIT_NAMES or _known(folder, class_names):
            return root
        root += folder + "/"


def _known(name: str, class_names) -> bool:
    try:
        vocabulary.class_named(name, class_names)
    except vocabulary.UnknownClass:
        return False
    return True


def _has_splits(source, kind: str, pictures: list[str], root: str) -> bool:
    """Whether the first folders are splits; a kind but `folder` must have them, and none may be both."""
    first = {name[len(root) :].split("/")[0] for name in pictures if "/" in name[len(root) :]}
    others = sorted(name for name in first if name.casefold() not in SPLIT_NAMES)
    if others and (kind != "folder" or len(others) < len(first)):
        raise DatasetError(
            f"{source.path}: {root}{others[0]} is no split: wanted folders {', '.join(sorted(SPLIT_NAMES))} (any case)."
        )
    return not others


def _is_unlabelled(name: str) -> bool:
    return name.count("/") == 1 and SPLIT_NAMES.get(name.split("/")[0].casefold()) == "test"


def _placed(source, settings, name: str, root: str, by_split: bool) -> Place:
    parts = name[len(root) :].split("/")
    if len(parts) != (3 if by_split else 2):
        level = "<split>/<class>/<picture>" if by_split else "<class>/<picture>"
        raise DatasetError(
            f"{source.path}: {name} does not lie at {level} (below {root or 'the top'}): move it there, or out."
        )
    try:
        label = vocabulary.class_named(parts[-2], settings.classes)
    except vocabulary.UnknownClass as error:
        raise DatasetError(f"{source.path}: {name.rsplit('/', 1)[0]}: {error}") from None
    return Place(name, SPLIT_NAMES[parts[0].casefold()] if by_split else "", label, _subject(settings, parts[-1]))


def _subject(settings, name: str) -> str:
    """Who is in the picture, where the pattern `dataset.split.subject` finds it in the file's name."""
    match = settings.split.subject and re.search(settings.split.subject, name, re.IGNORECASE)
    return (match.group(1) if match.re.groups else match.group()) or "" if match else ""


def _divided(source, settings, places: list[Place], val: float, test: float, say) -> list[Place]:
    """Choose val and test among `places` by the seed, subjects kept together."""
    split = stratified_split(
        [(place.source, place.label, place.subject) for place in places], val, test, settings.split.seed
    )
    absent = [name for name, share in (("val", val), ("test", test)) if share and name not in split.values()]
    if absent:
        raise DatasetError(
            f"{source.path}: {len(places)} pictures are too few, or their subjects, to take "
            f"{' and '.join('dataset.split.' + name for name in absent)} of each class"
        )
    subjects = {place.subject for place in places if place.subject}
    named = sum(bool(place.subject) for place in places)
    counts = Counter(split.values())
    say(
        "split by dataset.split.seed: {}; {}".format(
            ", ".join(f"{counts[name]} {name}" for name in artifacts.SPLITS if counts[name]),
            f"{len(subjects)} subjects, told by the names of {named} of {len(places)} pictures, stay together"
            if named
            else "the names tell no subjects (dataset.split.subject)",
        )
    )
    return [replace(place, split=split[place.source]) for place in places]


def _with_val(source, settings, places: list[Place], say) -> list[Place]:
    """Take val from train where a data set comes with train and test alone."""
    if any(place.split == "val" for place in places):
        return places
    train = [place for place in places if place.split == "train"]
    others = [place for place in places if place.split != "train"]
    return others + _divided(source, settings, train, settings.split.val, 0, say) if train else places


def _check_splits(source, settings, splits) -> None:
    missing = [split for split in NEEDED_SPLITS if split not in splits]
    if missing:
        raise DatasetError(f"{source.path} has no pictures for {' and '.join(missing)}: {wanted_layout(settings.kind)}")


def _rafdb(source, settings, say) -> list[Place]:
    """RAF-DB basic: a list of names and labels, and the aligned pictures. Val is taken from its train."""
    files = source.files()
    lists = [name for name in files if names.folded(name).endswith("list_patition_label.txt")]
    lists = [name for name in lists if not names.is_clutter(name)]
    if len(lists) != 1:
        found = " and ".join(lists) or "no list"
        raise DatasetError(f"{source.path} has {found}: {wanted_layout('rafdb')}")
    root = "".join(part + "/" for part in PurePosixPath(lists[0]).parent.parent.parts)
    present, places, absent, lines = set(files), [], [], {}
    for number, line in enumerate(read_text(source, lists[0]).splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*((train|test)_\w+)\.jpg\s+([1-7])\s*", line, re.ASCII)
        if not match:
            raise DatasetError(
                f"{source.path}: {lists[0]}:{number}: wanted a name train_NNNNN.jpg or test_NNNNN.jpg and a label from "
                f"1 to 7, given {line[:80]!r}"
            )
        name, split, label = match.groups()
        if lines.setdefault(name, number) != number:
            raise DatasetError(f"{source.path}: {lists[0]}: {name}.jpg stands in lines {lines[name]} and {number}")
        path = f"{root}Image/aligned/{name}_aligned.jpg"
        (absent if path not in present else places).append(
            Place(path, split, vocabulary.class_named(RAFDB_LABELS[int(label)], settings.classes))
        )
    if absent:
        packed = f"{root}Image/aligned.zip"
        hint = f"unpack {packed} there" if packed in present else wanted_layout("rafdb")
        raise DatasetError(
            f"{source.path}: {len(absent)} pictures of the list are not there, the first is {absent[0].source}: {hint}"
        )
    others = present - {place.source for place in places} - set(lists)
    unlisted = {name for name in others if names.is_picture(name) and not names.is_clutter(name)}
    _tell(say, sorted(unlisted), "pictures that the list does not name were passed over")
    _tell_passed_over(say, others - unlisted)
    places = _with_val(source, settings, places, say)
    _check_splits(source, settings, {place.split for place in places})
    return places


def _fer2013(source, settings, say) -> Pictures:
    """FER2013: a picture a row, as numbers; each becomes a PNG named by its row."""
    tables = [name for name in source.files() if name.casefold().endswith(".csv") and not names.is_clutter(name)]
    tables = [name for name in tables if PurePosixPath(name).name.casefold() == "fer2013.csv"] or tables
    if len(tables) != 1:
        raise DatasetError(f"{source.path} has {' and '.join(tables) or 'no table'}: {wanted_layout('fer2013')}")
    _tell_passed_over(say, set(source.files()) - set(tables))
    for name, stream in source.read_files(set(tables)):
        rows = _short_lines(io.BufferedReader(stream) if isinstance(stream, io.RawIOBase) else stream, name)
        header = next(rows, (1, []))[1]
        columns = [column.strip().casefold() for column in header]
        if not {"emotion", "pixels", "usage"} <= set(columns):
            raise DatasetError(f"{source.path}: {name} has the columns {header}: {wanted_layout('fer2013')}")
        splits = set()
        for line, row in rows:
            if row:
                place, data = _fer2013_picture(name, line, dict(zip(columns, row)), settings.classes)
                splits.add(place.split)
                yield place, data
        _check_splits(source, settings, splits)


def _short_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line; none is long enough to fill the memory."""
    for number, line in enumerate(iter(lambda: stream.readline(FER2013_LINE), b""), 1):
        if len(line) == FER2013_LINE:
            raise DatasetError(f"{name}:{number} is longer than {FER2013_LINE} bytes: {wanted_layout('fer2013')}")
        try:
            yield number, next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")], strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{name}:{number}: {error}") from None


def _fer2013_picture(name: str, line: int, row: dict[str, str], class_names) -> tuple[Place, BinaryIO]:
    where = f"{name}:{line}"
    try:
        label = vocabulary.class_named(FER2013_LABELS[int(row["emotion"])], class_names)
        split = FER2013_SPLITS[row["usage"].strip().casefold()]
        pixels = np.array(row["pixels"].split(), np.uint16)
    except vocabulary.UnknownClass as error:
        raise DatasetError(f"{where}: {error}") from None
    except (KeyError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"{where}: {error}: wanted an emotion from 0 to 6, pixels from 0 to 255, and one of the Usages Training, "
            "PublicTest and PrivateTest"
        ) from None
    if pixels.size != FER2013_SIDE**2 or pixels.max() > 255:
        raise DatasetError(
            f"{where}: wanted {FER2013_SIDE**2} pixels from 0 to 255, given {pixels.size} up to {pixels.max(initial=0)}"
        )
    data = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8).reshape(FER2013_SIDE, FER2013_SIDE)).save(data, "PNG")
    data.seek(0)
    return Place(where, split, label, file=f"fer2013_{line:05d}.png"), data


def _tell_passed_over(say, files) -> None:
    """Say what is neither picture nor list: clutter by its number, all else by name."""
    clutter = sorted(name for name in files if names.is_clutter(name))
    _tell(say, clutter, "hidden or system files were passed over")
    _tell(say, sorted(set(files) - set(clutter)), "files that are no pictures by their names were passed over")


def _tell(say, files: list[str], what: str) -> None:
    if files:
        shown = ", ".join(map(repr, files[:5])) + (", ..." if len(files) > 5 else "")
        say(f"{len(files)} {what}: {shown}")
