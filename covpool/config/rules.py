"""The rules that a single value of params.yaml can have: a field of a section for each kind of value.

`number(0, 1)` makes a dataclass field whose metadata holds the check. A check returns the value as the sections
hold it, or raises `Wrong` with what would be allowed.
"""

import dataclasses
import re

from covpool.config import npu_keys, vocabulary
from covpool.config.schedules import NAMED_SCHEDULES, check_schedule


class Wrong(ValueError):
    """A value that its rule does not allow; the text says what would be."""


class WrongKeys(Wrong):
    """A value that is a table of keys: [(key, text), ...] tells what is wrong below it."""

    def __init__(self, keys):
        super().__init__()
        self.keys = keys


def rule(check):
    return dataclasses.field(metadata={"check": check})


def whole(low, high=None):
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
            raise Wrong("a whole number " + _bounds(low, high, True, True))
        return value

    return rule(check)


def number(low, high=None, above=False, below=False):
    """A number from `low` to `high`; `above` and `below` leave the end itself out."""

    def check(value):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Wrong("a number " + _bounds(low, high, not above, not below))
        inside = (value > low if above else value >= low) and (
            high is None or (value < high if below else value <= high)
        )
        if not inside or value != value or value in (float("inf"), float("-inf")):
            raise Wrong("a number " + _bounds(low, high, not above, not below))
        return float(value)

    return rule(check)


def _bounds(low, high, closed_low, closed_high):
    text = ("from {}" if closed_low else "above {}").format(low)
    return text if high is None else text + (" to {}" if closed_high else " and below {}").format(high)


def choice(*names):
    def check(value):
        if value not in names or isinstance(value, bool):
            raise Wrong("one of " + ", ".join(name or "''" for name in names))
        return value

    return rule(check)


def flag():
    def check(value):
        if not isinstance(value, bool):
            raise Wrong("true or false")
        return value

    return rule(check)


def text(empty=True):
    def check(value):
        if not isinstance(value, str) or not (empty or value.strip()):
            raise Wrong("text" if empty else "text that is not empty")
        return value

    return rule(check)


_HASH = re.compile(r"[0-9a-f]{64}\Z")


def sha256():
    def check(value):
        if not isinstance(value, str) or not (value == "" or _HASH.match(value)):
            raise Wrong("64 digits of 0-9a-f, or nothing")
        return value

    return rule(check)


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


def names():
    def check(value):
        good = isinstance(value, list) and all(isinstance(item, str) and NAME.match(item) for item in value)
        if not good or not value or len({item.casefold() for item in value}) < len(value):
            raise Wrong("a list of 1 or more different names (letters, digits, _ and -)")
        return tuple(value)

    return rule(check)


def class_names():
    def check(value):
        good = isinstance(value, list) and len(value) >= 2
        if not good or len(set(map(str, value))) < len(value):
            raise Wrong("a list of 2 or more different class names")
        faults = [fault for fault in map(vocabulary.name_fault, value) if fault]
        if faults:
            raise Wrong("a list of 2 or more different class names, but {}".format("; ".join(faults)))
        if vocabulary.same_classes(value):
            raise Wrong(
                "a list of 2 or more different class names, but {!r} and {!r} mean the same".format(
                    *vocabulary.same_classes(value)
                )
            )
        return tuple(map(vocabulary.normal, value))

    return rule(check)


def pattern():
    def check(value):
        try:
            if isinstance(value, str) and re.compile(value).groups <= 1:
                return value
        except re.error:
            pass
        raise Wrong("a regular expression with at most one group, or nothing")

    return rule(check)


def schedule():
    def check(value):
        if isinstance(value, str):
            if value in NAMED_SCHEDULES:
                return value
        elif isinstance(value, (list, tuple)) and value:
            try:
                return check_schedule(value)
            except ValueError:
                pass
        raise Wrong(
            "a list of [first epoch, rate] pairs, the first epochs rising from 0 and the rates above 0, or one of "
            + ", ".join(NAMED_SCHEDULES)
        )

    return rule(check)


def adapter_keys():
    def check(value):
        if not isinstance(value, dict):
            raise Wrong("keys of the adapter's parameter_map with their values, or {}")
        wrong = npu_keys.wrong_keys(value)
        if wrong:
            raise WrongKeys(wrong)
        return dict(value)

    return rule(check)


def section(kind):
    return dataclasses.field(metadata={"section": kind})
