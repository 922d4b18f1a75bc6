"""Data sets on their way into the pipeline: fetched in any of their layouts, listed in a manifest, and validated."""

from covpool.datasets.errors import DatasetError
from covpool.datasets.fetch import fetch
from covpool.datasets.validate import validate

__all__ = ["DatasetError", "fetch", "validate"]
