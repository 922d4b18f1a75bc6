"""What the tests of the comparison share: a report without its page, and the tables that it writes."""

import csv
import json

from covpool.reporting import build_report, comparison
from covpool.reporting.runs import read_run


def report(project, devices, tolerance=0.1):
    """Write a report; its entries by name, and the whole comparison."""
    content = build_report(project.root, devices=devices, loss_tolerance=tolerance)
    written = json.loads((project.root / "reports" / "comparison.json").read_text(encoding="utf-8"))
    assert written == content
    return {entry["name"]: entry for entry in content["runs"]}, content


def compared(project, devices, tolerance=0.1):
    """The entries of a comparison by name, without writing a report."""
    content = comparison.compare([read_run(project.root, name) for name in devices], tolerance)
    return {entry["name"]: entry for entry in content["runs"]}


def table(project, name):
    """The rows of a CSV of the project, as text."""
    with open(project.root / name, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def markdown(project):
    """`comparison.md`."""
    return (project.root / "reports/comparison.md").read_text(encoding="utf-8")
