"""The report on what was trained: tables, figures and one page, made from the artifacts alone.

`build_report` is the entrance. Nothing here imports TensorFlow or trains: a report can be written on a machine without
the device and without a network connection, from the records that the runs left.
"""

from covpool.reporting.report import build_report

__all__ = ["build_report"]
