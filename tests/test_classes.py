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


def test_the_very_name_comes_before_another_word_for_it():
    assert classes.class_named("Happy", ("joy", "happy")) == "happy"
    assert classes.class_named("happiness", ("happy", "sad")) == "happy"
    assert classes.class_named("Angry", ("Anger", "neutral")) == "Anger"


def test_two_words_for_one_expression_are_found():
    assert classes.same_classes(("happy", "neutral", "Joy")) == ("happy", "Joy")
    assert classes.same_classes(("Ärger", "a\u0308rger")) == ("Ärger", "a\u0308rger")
    assert classes.same_classes(("happy", "sad", "smile")) is None


@pytest.mark.parametrize("name", ["радость", "怒り", "हँसी", "فرح", "joie_2", "e\u0301tonne\u0301", "7"])
def test_names_in_any_script_are_names(name):
    assert classes.name_fault(name) == ""
    assert classes.class_named(name.upper(), ("other", classes.normal(name))) == classes.normal(name)


@pytest.mark.parametrize(
    "name, reason",
    [("all", "the sums in data/normalise.json"), ("Worst", "the sheet"), ("actual", "a column of"), ("a/b", "letters"),
     ("predicted", "a column of"), ("..", "letters"), ("", "letters"), ("-a", "letters"), ("a b", "letters"),
     ("a\nb", "letters"), ("\u0301a", "letters"), ("я" * 51, "longer than 100 bytes"), (7, "no text")],
)  # fmt: skip
def test_names_that_would_break_files_are_refused_with_the_reason(name, reason):
    assert reason in classes.name_fault(name)


def test_other_class_sets_are_met_by_their_own_names():
    assert classes.class_named("Positive", ("negative", "positive")) == "positive"
    with pytest.raises(classes.UnknownClass):
        classes.class_named("happy", ("negative", "positive"))
