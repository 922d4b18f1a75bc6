"""Brings data sets into the pipeline: fetches them in any of their layouts and lists them in a manifest."""

from covpool.datasets.errors import DatasetError
from covpool.datasets.fetch import fetch

__all__ = ["DatasetError", "fetch"]
