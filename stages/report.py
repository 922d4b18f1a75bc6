"""Stage report: compares the runs in `devices` with each other and with the published figures."""

from pathlib import Path

from covpool import artifacts
from covpool.reporting import build_report, leftovers
from covpool.stage import stage

if __name__ == "__main__":
    with stage("report", artifacts.ArtifactError) as params:
        for path in leftovers.set_aside(Path("."), params.devices):
            print("report: {} is of no run in `devices`: moved to {}".format(path, leftovers.LEFT_OUT / path))
        build_report(Path("."), devices=list(params.devices), loss_tolerance=params.report.loss_tolerance)
        print("report: open {}".format(artifacts.REPORTS / "index.html"))
