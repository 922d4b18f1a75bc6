"""Every data set's class names reach the one order by name."""

import pytest

from covpool.config import vocabulary


@pytest.mark.parametrize(
    "name, expected",
    [
        ("Angry", "anger"),
        ("happy", "happiness"),
        (" Happiness ", "happiness"),
        ("SURPRISE", "surprise"),
        ("surprised", "surprise"),
        ("Joy", "happiness"),
        ("sad", "sadness"),
        ("Neutral", "neutral"),
    ],
)
def test_aliases(name, expected):
    assert vocabulary.class_named(name) == expected


def test_sfew_folders_sorted_are_the_canonical_order():
    folders = sorted(["Sad", "Happy", "Angry", "Neutral", "Surprise", "Fear", "Disgust"])
    assert [vocabulary.class_named(folder) for folder in folders] == list(vocabulary.CANONICAL)


def test_an_unknown_class_lists_the_known_ones():
    with pytest.raises(vocabulary.UnknownClass, match="unknown class 'contempt'.*anger/angry.*dataset.classes"):
        vocabulary.class_named("contempt")
    assert vocabulary.class_named("contemptuous", (*vocabulary.CANONICAL, "contempt")) == "contempt"


def test_the_very_name_comes_before_another_word_for_it():
    assert vocabulary.class_named("Happy", ("joy", "happy")) == "happy"
    assert vocabulary.class_named("happiness", ("happy", "sad")) == "happy"
    assert vocabulary.class_named("Angry", ("Anger", "neutral")) == "Anger"


def test_two_words_for_one_expression_are_found():
    assert vocabulary.same_classes(("happy", "neutral", "Joy")) == ("happy", "Joy")
    assert vocabulary.same_classes(("Ärger", "a\u0308rger")) == ("Ärger", "a\u0308rger")
    assert vocabulary.same_classes(("happy", "sad", "smile")) is None


@pytest.mark.parametrize("name", ["радость", "怒り", "हँसी", "فرح", "joie_2", "e\u0301tonne\u0301", "7"])
def test_names_in_any_script_are_names(name):
    assert vocabulary.name_fault(name) == ""
    assert vocabulary.class_named(name.upper(), ("other", vocabulary.normal(name))) == vocabulary.normal(name)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("all", "the sums in data/normalise.json"),
        ("Worst", "the sheet"),
        ("actual", "a column of"),
        ("a/b", "letters"),
        ("predicted", "a column of"),
        ("..", "letters"),
        ("", "letters"),
        ("-a", "letters"),
        ("a b", "letters"),
        ("a\nb", "letters"),
        ("\u0301a", "letters"),
        ("я" * 51, "longer than 100 bytes"),
        (7, "not text"),
    ],
)
def test_names_that_would_break_files_are_refused_with_the_reason(name, reason):
    assert reason in vocabulary.name_fault(name)


def test_other_class_sets_are_met_by_their_own_names():
    assert vocabulary.class_named("Positive", ("negative", "positive")) == "positive"
    with pytest.raises(vocabulary.UnknownClass):
        vocabulary.class_named("happy", ("negative", "positive"))
