"""The one order of the expression classes, and the names under which data sets know them.

Mixed-up label orders are the field's most common mistake, so no adapter carries numbers across: each maps into this
order by name. The order is alphabetical, which is also that of the SFEW folders (Angry, Disgust, ..., Surprise), and
so the order of the labels in the original's checkpoints.

A class's name is the name of folders, files, columns and keys, in any script: `name_fault` says what it may not be.
"""

import unicodedata
from typing import Optional, Sequence, Tuple

CANONICAL = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")

ALIASES = {
    "anger": ("anger", "angry"),
    "contempt": ("contempt", "contemptuous"),
    "disgust": ("disgust", "disgusted"),
    "fear": ("fear", "afraid", "fearful", "scared"),
    "happiness": ("happiness", "happy", "joy", "joyful"),
    "neutral": ("neutral", "neutrality", "calm"),
    "sadness": ("sadness", "sad"),
    "surprise": ("surprise", "surprised"),
}

#: Names that no class may have -> what has them already. Every list of classes is checked against this one.
RESERVED = {
    "actual": "a column of evaluation/<run>/confusion.csv",
    "all": "the sums in data/normalise.json and in the report",
    "predicted": "a column of evaluation/<run>/predictions.csv",
    "worst": "the sheet data/sheets/worst.png",
}

#: A class names a file, whose name may have 255 bytes.
LONGEST = 100


class UnknownClass(ValueError):
    """A class name that the data set's class list does not know."""


def folded(name: str) -> str:
    """`name` as it is compared: in one Unicode form, without case and outer blanks."""
    return normal(normal(name.strip()).casefold())


def normal(name: str) -> str:
    """`name` in the one of its Unicode forms that files and tables use here (NFC)."""
    return unicodedata.normalize("NFC", name)


def meaning(name: str) -> str:
    """The expression that `name` is a word for, or the folded name itself if it is not a known word."""
    word = folded(name)
    return next((expression for expression, words in ALIASES.items() if word in words), word)


def class_named(name: str, class_names: Sequence[str] = CANONICAL) -> str:
    """Find the class that a folder or label called `name` means.

    An entry of exactly that name, in any case, comes first; else the one that means the same expression.

    Raises:
        UnknownClass: there is none.
    """
    same_name = [entry for entry in class_names if folded(entry) == folded(name)]
    same_meaning = [entry for entry in class_names if meaning(entry) == meaning(name)]
    for entry in same_name + same_meaning:
        return entry
    known = ", ".join("/".join(_words(entry)) for entry in class_names)
    raise UnknownClass(f"unknown class {name!r}: expected one of {known}. Set dataset.classes to your classes.")


def _words(entry):
    others = ALIASES.get(meaning(entry), ())
    return (entry,) + tuple(word for word in others if word != folded(entry))


def name_fault(name: object) -> str:
    """Why `name` can't be a class's name, or '': letters and digits of any script, _ and - are allowed."""
    if not isinstance(name, str):
        return f"{name!r} is not text"
    good = all(character in "_-" or unicodedata.category(character)[0] in "LMN" for character in name)
    if not name or not good or unicodedata.category(name[0])[0] not in "LN":
        return f"{name!r} must be letters, digits, _ and -, beginning with a letter or digit"
    if len(name.encode("utf-8")) > LONGEST:
        return f"{name!r} is longer than {LONGEST} bytes"
    if folded(name) in RESERVED:
        return f"{name!r} is the name of {RESERVED[folded(name)]}"
    return ""


def same_classes(class_names: Sequence[str]) -> Optional[Tuple[str, str]]:
    """The first two entries that would mean the same, or None."""
    seen = {}
    for entry in class_names:
        if meaning(entry) in seen:
            return seen[meaning(entry)], entry
        seen[meaning(entry)] = entry
    return None
