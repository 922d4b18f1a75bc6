"""Stage report: compares the runs in `devices` with each other and with the published figures."""

from pathlib import Path

from covpool.pipeline import artifacts
from covpool.pipeline.stage_frame import stage
from covpool.reporting import build_report, leftovers

if __name__ == "__main__":
    with stage("report", lock="report") as params:
        for path in leftovers.set_aside(Path("."), params.devices):
            print(f"report: {path} belongs to no run in `devices`: moved to {leftovers.LEFT_OUT / path}")
        build_report(Path("."), devices=list(params.devices), loss_tolerance=params.report.loss_tolerance)
        print(f"report: open {artifacts.REPORTS / 'index.html'}")
