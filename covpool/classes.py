"""The one order of the expression classes, and the names under which data sets know them.

Mixed-up label orders are the field's most common mistake, so no adapter carries numbers across: each maps into this
order by name. The order is alphabetical, which is also that of the SFEW folders (Angry, Disgust, ..., Surprise), and
so the order of the labels in the original's checkpoints.
"""

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


class UnknownClass(ValueError):
    """A class name that the data set's class list does not know."""


def class_named(name, classes=CANONICAL):
    """The entry of `classes` that a folder or label called `name` means: by itself, or as an alias, in any case."""
    wanted = name.strip().casefold()
    for entry in classes:
        if wanted in (entry.casefold(), *ALIASES.get(entry, ())):
            return entry
    raise UnknownClass(
        "unknown class {!r}: known are {}. Name another set in dataset.classes.".format(
            name, ", ".join("/".join(ALIASES.get(entry, (entry,))) for entry in classes)
        )
    )
