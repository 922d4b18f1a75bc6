"""Data sets on their way into the pipeline: fetched in any of their layouts and listed in a manifest."""

from covpool.datasets.errors import DatasetError
from covpool.datasets.fetch import fetch

__all__ = ["DatasetError", "fetch"]
