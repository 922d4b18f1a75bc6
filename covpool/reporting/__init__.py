"""The report on what was trained: tables, figures and one page, made from the artifacts alone.

`build_report` is the entrance. Nothing here imports TensorFlow or trains: a report can be written on a machine that
has neither device nor network, from the records that the runs left.
"""

from covpool.reporting.report import build_report

__all__ = ["build_report"]
