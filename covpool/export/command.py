"""`covpool export`: a trained run, or a checkpoint of the original's, as one ONNX file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from covpool.config import ParamsError, load_params
from covpool.export import runs
from covpool.export.exporting import MODEL_FILE, ExportError, Request, export
from covpool.pipeline.artifacts import ArtifactError
from covpool.pipeline.stage_frame import sentences


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1: the network disagrees with TensorFlow, or can't be read."""
    parser = argparse.ArgumentParser(prog="covpool export", description=__doc__)
    parser.add_argument("run", nargs="?", help="a trained run, such as cpu; default: the first of `devices`")
    parser.add_argument("--which", choices=("best", "last"), help="of its checkpoints; default: evaluate.checkpoint")
    parser.add_argument("--checkpoint", help="prefix of a checkpoint's files instead of a run, the original's or ours")
    parser.add_argument("--network", choices=("covpoolnet", "covpoolnet2"), help="with --checkpoint: which network")
    parser.add_argument("--normalisation", choices=("per_image", "none"), help="with --checkpoint: of its input")
    parser.add_argument("--classes", help="with --checkpoint: names of its classes in its order, with commas")
    parser.add_argument("--image-size", type=int, default=100, help="with --checkpoint: side of its input; default 100")
    parser.add_argument("--faces", type=Path, help="folder of normalised faces to compare on; default: data/faces")
    parser.add_argument("--weights", choices=("float32", "float16"), default="float32", help="of the layer fc_1")
    parser.add_argument("--out", type=Path, help="folder to write to; default: exports/<run>")
    options = parser.parse_args(arguments)
    needed = ("network", "normalisation", "classes", "out")
    if options.checkpoint and (options.run or not all(getattr(options, name) for name in needed)):
        parser.error("--checkpoint needs --network, --normalisation, --classes and --out, and no run")
    with sentences("export", ExportError, ArtifactError, ParamsError):
        if options.checkpoint:
            request, target = _of_checkpoint(options), options.out
        else:
            run = options.run or load_params().devices[0]
            request, target = runs.request(run, options.which, options.weights, options.faces, options.out)
        record = export(request, target)
    if not record["exported"]:
        print(f"export: no model was written: {'; '.join(record['reasons'])}", file=sys.stderr)
        return 1
    print(runs.sentence(target / MODEL_FILE, record))
    return 0


def _of_checkpoint(options):
    arguments = ("--checkpoint", options.checkpoint, "--network", options.network)
    arguments += ("--normalisation", options.normalisation, "--image-size", str(options.image_size))
    crop = {"detector": "mtcnn", "size": options.image_size, "margin": 0, "min_score": 0.9}
    names = tuple(name.strip() for name in options.classes.split(","))
    context = {"name": Path(options.checkpoint).name, "data": "unknown: the checkpoint came from elsewhere"}
    return Request(arguments, names, crop, options.weights, options.faces, context)
