"""What all layouts of data sets share: the place of a picture, descriptions of layouts, and reports on other files."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from covpool.config import Dataset
from covpool.datasets import names
from covpool.datasets.callbacks import Say
from covpool.datasets.errors import DatasetError
from covpool.datasets.sources import Source

#: Training needs train; choosing the best checkpoint needs val.
NEEDED_SPLITS = ("train", "val")

#: The layout of each kind, as errors show it.
LAYOUTS = {
    "folder": "train|val[|test]/<class>/*, or <class>/* to be split here",
    "sfew_100": "Train|val/<class>/*.png",
    "sfew": "Train|Val/<class>/*.png",
    "rafdb": "EmoLabel/list_patition_label.txt and Image/aligned/{train,test}_NNNNN_aligned.jpg",
    "fer2013": "fer2013.csv with the columns emotion, pixels and Usage",
}

#: How to get data sets that need a licence.
SFEW = "SFEW is given to researchers who sign its licence: https://cs.anu.edu.au/few/ tells how."
LICENCES = {
    "sfew_100": SFEW,
    "sfew": SFEW,
    "rafdb": "RAF-DB is given to researchers who ask for it: http://www.whdeng.cn/RAF/model1.html tells how.",
    "fer2013": "FER2013 is at https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-"
    "recognition-challenge, after accepting the rules there.",
}


@dataclass(frozen=True)
class Place:
    """A picture of the source, and its place in the pipeline's layout.

    Attributes:
        source: Path of the picture in its source.
        split: train, val or test; "" until it is chosen.
        label: Name of the class.
        subject: Name of the person, or "" if it is not known.
        file: File name in the pipeline's layout, or "" to keep the name that it has in the source.
    """

    source: str
    split: str
    label: str
    subject: str = ""
    file: str = ""

    @property
    def path(self) -> str:
        """The path in the pipeline's layout."""
        return f"{self.split}/{self.label}/{self.file or PurePosixPath(self.source).name}"


#: Places and the contents of their pictures.
Pictures = Iterator[tuple[Place, BinaryIO]]


def expected_layout(kind: str) -> str:
    """Return in words how a source of this kind must be laid out, and how to get the data."""
    return " ".join(filter(None, (f"expected {LAYOUTS[kind]}.", LICENCES.get(kind))))


def check_splits(source: Source, settings: Dataset, splits: Collection[str]) -> None:
    """Raise DatasetError if one of NEEDED_SPLITS has no pictures; `splits` are those that have some."""
    missing = [split for split in NEEDED_SPLITS if split not in splits]
    if missing:
        raise DatasetError(
            f"{source.path} has no pictures for {' and '.join(missing)}: {expected_layout(settings.kind)}"
        )


def report_skipped(say: Say, files: Collection[str]) -> None:
    """Report files that are neither pictures nor lists; hidden and system files are reported separately."""
    clutter = sorted(name for name in files if names.is_clutter(name))
    report_files(say, clutter, "hidden or system files were skipped")
    report_files(say, sorted(set(files) - set(clutter)), "files without the extension of a picture were skipped")


def report_files(say: Say, files: list[str], what: str) -> None:
    """Report how many `files` there are and the first five; nothing if there are none."""
    if files:
        shown = ", ".join(map(repr, files[:5])) + (", ..." if len(files) > 5 else "")
        say(f"{len(files)} {what}: {shown}")
