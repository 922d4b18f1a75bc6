"""Every data set's class names reach the one order by name."""

import pytest

from covpool import classes


@pytest.mark.parametrize(
    "name, wanted",
    [("Angry", "anger"), ("happy", "happiness"), (" Happiness ", "happiness"), ("SURPRISE", "surprise"),
     ("surprised", "surprise"), ("Joy", "happiness"), ("sad", "sadness"), ("Neutral", "neutral")],
)  # fmt: skip
def test_aliases(name, wanted):
    assert classes.class_named(name) == wanted


def test_sfew_folders_sorted_are_the_canonical_order():
    folders = sorted(["Sad", "Happy", "Angry", "Neutral", "Surprise", "Fear", "Disgust"])
    assert [classes.class_named(folder) for folder in folders] == list(classes.CANONICAL)


def test_an_unknown_class_lists_the_known_ones():
    with pytest.raises(classes.UnknownClass, match="unknown class 'contempt'.*anger/angry.*dataset.classes"):
        classes.class_named("contempt")
    assert classes.class_named("contemptuous", (*classes.CANONICAL, "contempt")) == "contempt"


def test_other_class_sets_are_met_by_their_own_names():
    assert classes.class_named("Positive", ("negative", "positive")) == "positive"
    with pytest.raises(classes.UnknownClass):
        classes.class_named("happy", ("negative", "positive"))
