"""Stage report: compares the runs in `devices` with each other and with the published figures."""

from pathlib import Path

from covpool.pipeline import artifacts
from covpool.pipeline.stage_frame import stage
from covpool.reporting import build_report, leftovers

if __name__ == "__main__":
    with stage("report", artifacts.ArtifactError) as params:
        for path in leftovers.set_aside(Path("."), params.devices):
            print(f"report: {path} is of no run in `devices`: moved to {leftovers.LEFT_OUT / path}")
        build_report(Path("."), devices=list(params.devices), loss_tolerance=params.report.loss_tolerance)
        print("report: open {}".format(artifacts.REPORTS / "index.html"))
