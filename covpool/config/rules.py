"""The rules that a single value of params.yaml can have.

`number(0, 1)` makes a `Rule`: what it expects in words, and what it allows. `key(rule)` makes the field of a section
that has it. The keys of the NPU adapter's parameter_map use the same rules (`covpool.config.npu_keys`).
"""

import dataclasses
import json
import re
from typing import Any, Callable, Optional

from covpool.config import builds, vocabulary
from covpool.config.schedules import NAMED_SCHEDULES, check_schedule


class Wrong(ValueError):
    """A value that its rule does not allow; the text says what is expected, and what it got."""


class WrongKeys(Wrong):
    """A value that is a table of keys: [(key, text), ...] says what is wrong below it."""

    def __init__(self, keys):
        super().__init__()
        self.keys = keys


class Rule:
    """What a value may be.

    Args:
        expected: in words, for messages.
        allows: whether a value is right.
        convert: makes the value that a section holds of one that is right.
        why: more about a value that is wrong, or "".
    """

    def __init__(
        self,
        expected: str,
        allows: Callable[[Any], bool],
        convert: Callable[[Any], Any] = lambda value: value,
        why: Callable[[Any], str] = lambda value: "",
    ):
        self.expected, self.allows, self.convert, self.why = expected, allows, convert, why

    def check(self, value: Any) -> Any:
        """Return the value as a section holds it.

        Raises:
            Wrong: the rule does not allow it.
        """
        if self.allows(value):
            return self.convert(value)
        why = self.why(value)
        raise Wrong(f"expected {self.expected}, got {value!r}{why and ': ' + why}")


def key(rule: Rule):
    """The field of a section whose value follows a rule."""
    return dataclasses.field(metadata={"rule": rule})


def section(kind):
    """The field of a section that is a section itself, of the dataclass `kind`."""
    return dataclasses.field(metadata={"section": kind})


def _is_number(value, kinds):
    return isinstance(value, kinds) and not isinstance(value, bool)


def whole(low: Optional[int] = None, high: Optional[int] = None) -> Rule:
    """A whole number from `low` to `high`; None: no bound."""

    def allows(value):
        return _is_number(value, int) and (low is None or value >= low) and (high is None or value <= high)

    return Rule("a whole number" + _bounds(low, high, True, True), allows)


def number(low: float, high: Optional[float] = None, above: bool = False, below: bool = False) -> Rule:
    """A number from `low` to `high`; `above` and `below` leave the end itself out."""

    def allows(value):
        # A comparison with nan is false; infinity has to be named.
        return (
            _is_number(value, (int, float))
            and (value > low if above else value >= low)
            and (high is None or (value < high if below else value <= high))
            and value != float("inf")
        )

    return Rule("a number" + _bounds(low, high, not above, not below), allows, float)


def _bounds(low, high, closed_low, closed_high):
    if low is None:
        return ""
    text = (" from {}" if closed_low else " above {}").format(low)
    return text if high is None else text + (" to {}" if closed_high else " and below {}").format(high)


def choice(*names: str) -> Rule:
    """One of some texts."""
    listed = ", ".join(name or "''" for name in names)
    return Rule(f"one of {listed}", lambda value: isinstance(value, str) and value in names)


def choices(*names: str) -> Rule:
    """A list of some texts, each at most once."""

    def allows(value):
        good = isinstance(value, list) and all(isinstance(item, str) and item in names for item in value)
        return bool(good and value) and len(set(value)) == len(value)

    return Rule(f"a list of 1 or more different ones of {', '.join(names)}, such as [{names[0]}]", allows, tuple)


def build() -> Rule:
    """A TensorFlow build, by its name."""
    return choice(builds.DEFAULT, *builds.BUILDS)


def flag() -> Rule:
    """True or false."""
    return Rule("true or false", lambda value: isinstance(value, bool))


def text(empty: bool = True, expected: str = "") -> Rule:
    """Any text; `empty` allows ''."""
    words = expected or ("text" if empty else "text that is not empty")
    return Rule(words, lambda value: isinstance(value, str) and (empty or bool(value.strip())))


def matching(pattern: str, expected: str) -> Rule:
    """Text that matches a regular expression as a whole."""
    whole_text = re.compile(rf"(?:{pattern})\Z")
    return Rule(expected, lambda value: isinstance(value, str) and bool(whole_text.match(value)))


def absolute_path() -> Rule:
    """The absolute path of a file or folder, which need not be there."""
    return Rule("an absolute path", lambda value: isinstance(value, str) and value.startswith("/"))


def sha256() -> Rule:
    """A SHA-256 in hexadecimal digits, or ''."""
    return matching("(?:[0-9a-f]{64})?", "64 digits of 0-9a-f, or ''")


def json_object() -> Rule:
    """The text of a JSON object."""

    def allows(value):
        try:
            return isinstance(value, str) and isinstance(json.loads(value), dict)
        except ValueError:
            return False

    return Rule("the text of a JSON object", allows)


#: The name of a run in `devices` and `device_options`, which is also a folder's.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


def names() -> Rule:
    """A list of different names of runs."""

    def allows(value):
        good = isinstance(value, list) and all(isinstance(item, str) and NAME.match(item) for item in value)
        return bool(good and value) and len({item.casefold() for item in value}) == len(value)

    return Rule("a list of 1 or more different names (letters, digits, _ and -), such as [cpu]", allows, tuple)


def class_names() -> Rule:
    """A list of different names of classes, in the order of the labels."""

    def why(value):
        if not isinstance(value, list):
            return ""
        faults = [fault for fault in map(vocabulary.name_fault, value) if fault]
        same = None if faults else vocabulary.same_classes(value)
        return "; ".join(faults) or ("{!r} and {!r} mean the same".format(*same) if same else "")

    def allows(value):
        return isinstance(value, list) and len(value) >= 2 and not why(value)

    return Rule(
        "a list of 2 or more different class names",
        allows,
        lambda value: tuple(map(vocabulary.normal, value)),
        why,
    )


def regular_expression() -> Rule:
    """A regular expression of Python with at most one group, or ''."""

    def allows(value):
        try:
            return isinstance(value, str) and re.compile(value).groups <= 1
        except re.error:
            return False

    return Rule("a regular expression with at most one group, or ''", allows)


def schedule() -> Rule:
    """A learning-rate schedule: `[[first epoch, rate], ...]`, or the name of one of the original's."""

    def allows(value):
        if isinstance(value, str):
            return value in NAMED_SCHEDULES
        try:
            return isinstance(value, (list, tuple)) and bool(check_schedule(value))
        except ValueError:
            return False

    return Rule(
        "a list of [first epoch, rate] pairs, the first epochs rising from 0 and the rates above 0, or one of "
        + ", ".join(NAMED_SCHEDULES),
        allows,
        lambda value: value if isinstance(value, str) else check_schedule(value),
    )
