"""Validation: opens every picture of a data set and reports what is wrong with it. No picture is dropped silently.

The entrance is `validate`. `inspection` looks at one picture, `duplicates` compares pictures, and `counts` sums up.
"""

from covpool.validation.errors import ValidationError
from covpool.validation.validate import describe, validate

__all__ = ["ValidationError", "describe", "validate"]
