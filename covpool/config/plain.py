"""Parameters as plain values."""

import dataclasses
from typing import Any


def as_plain(value: Any) -> Any:
    """Return parameters, or a section of them, as dictionaries, lists and plain values, for a JSON record."""
    if dataclasses.is_dataclass(value):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value
