"""Validation: opens every picture of a data set, says what is wrong with it, and loses nothing silently.

The entrance is `validate`; `inspection` looks at one picture.
"""

from covpool.validation.errors import ValidationError
from covpool.validation.validate import validate

__all__ = ["ValidationError", "validate"]
