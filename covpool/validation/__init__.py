"""Validation: opens every picture of a data set, says what is wrong with it, and loses nothing silently.

The entrance is `validate`; `inspection` looks at one picture, `duplicates` compares them.
"""

from covpool.validation.errors import ValidationError
from covpool.validation.validate import describe, validate

__all__ = ["ValidationError", "describe", "validate"]
