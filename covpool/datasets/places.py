"""What all layouts of data sets share: a picture's place, how a layout is shown, and what is said of other files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from covpool.datasets import names
from covpool.datasets.errors import DatasetError

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
    return " ".join(filter(None, (f"expected {LAYOUTS[kind]}.", LICENCES.get(kind))))


def check_splits(source, settings, splits) -> None:
    missing = [split for split in NEEDED_SPLITS if split not in splits]
    if missing:
        raise DatasetError(f"{source.path} has no pictures for {' and '.join(missing)}: {wanted_layout(settings.kind)}")


def tell_passed_over(say, files) -> None:
    """Say what is neither picture nor list: clutter by its number, all else by name."""
    clutter = sorted(name for name in files if names.is_clutter(name))
    tell(say, clutter, "hidden or system files were passed over")
    tell(say, sorted(set(files) - set(clutter)), "files without the name of a picture were passed over")


def tell(say, files: list[str], what: str) -> None:
    if files:
        shown = ", ".join(map(repr, files[:5])) + (", ..." if len(files) > 5 else "")
        say(f"{len(files)} {what}: {shown}")
