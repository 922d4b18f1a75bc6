"""Stage export: the trained network as one ONNX file that needs no TensorFlow, with its model card.

stages/py stages/export.py --device cpu
"""

import argparse

from covpool.export.exporting import ExportError
from covpool.export.runs import export_run, report
from covpool.pipeline.stage_frame import stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", required=True, help="a name from device_options in params.yaml")
    name = parser.parse_args().device
    with stage("export", ExportError, lock=f"export-{name}"):
        # A network that disagrees with TensorFlow is recorded, and the report goes on without it.
        print(report(name, export_run(name)))


if __name__ == "__main__":
    main()
