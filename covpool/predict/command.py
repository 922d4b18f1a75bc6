"""`covpool predict`: photos, folders, videos or a camera to expressions."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from covpool.faces.detectors import DetectorMissing
from covpool.pipeline import artifacts
from covpool.pipeline.stage_frame import sentences
from covpool.predict import sources
from covpool.predict.model import ModelError
from covpool.predict.output import open_rows
from covpool.predict.pictures import Album
from covpool.predict.predictor import BATCH, FALLBACKS, MIN_FACE, InputError, Predictor
from covpool.predict.stream import results, rows

#: Where exported networks of the pipeline's runs lie.
EXPORTS = Path("exports")
MODEL_FILE = "model.onnx"
#: Seconds between two lines of progress.
PROGRESS = 0.5


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0: at least one picture was read."""
    options = _parser().parse_args(arguments)
    with sentences("covpool predict", ModelError, InputError, DetectorMissing, artifacts.ArtifactError):
        try:
            return _predict(options)
        except BrokenPipeError:
            # The reader of the pipe has seen enough; Python would complain again when it closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="covpool predict", description=__doc__)
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="photo, folder, pattern in quotes, video, or camera:0")
    add("--model", help="a model.onnx, or the name of an exported run; default: the first of `devices` in params.yaml")
    add("--out", type=Path, help="file for the results: .csv, .jsonl or .json; default: standard output")
    add("--annotate", type=Path, metavar="DIR", help="also write the pictures and videos with what was found")
    add("--explain", action="store_true", help="also write where in each face the evidence lies")
    add("--every", type=_count, default=1, metavar="N", help="of videos, take every Nth frame only")
    add("--min-face", type=_count, default=MIN_FACE, help="smallest face to look for, in pixels; default %(default)s")
    add("--min-score", type=float, help="a face less certain than this is left out; default: as in training")
    add("--fallback", choices=FALLBACKS, default="none", help="center: score the middle of a picture without a face")
    add("--batch", type=_count, default=BATCH, help="faces that are scored at once; default %(default)s")
    add("--threads", type=int, default=0, help="that compute one batch; default: one per core")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def find_model(name: str | None) -> Path:
    """The file of a network.

    Args:
        name: a path, or the name of a run that was exported; None: the first run of `devices` in params.yaml.
    """
    if name is not None and (name.endswith(".onnx") or os.sep in name or Path(name).is_file()):
        return Path(name)
    if name is None:
        # PyYAML and the rules are loaded only if they are needed.
        from covpool.config import PARAMS_FILE, ParamsError, load_params

        if not PARAMS_FILE.is_file():
            raise ModelError("expected --model FILE.onnx, because this folder has no params.yaml that names a run")
        try:
            name = load_params().devices[0]
        except ParamsError as error:
            raise ModelError(str(error)) from None
    path = EXPORTS / name / MODEL_FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Run `dvc repro export@{name}`, or give --model FILE.onnx.")
    return path


def _predict(options) -> int:
    predictor = Predictor(
        find_model(options.model),
        min_face=options.min_face,
        min_score=options.min_score,
        fallback=options.fallback,
        threads=options.threads,
        batch=options.batch,
    )
    explain_to = None
    if options.explain:
        explain_to = options.annotate or (options.out.parent / "explanations" if options.out else Path("explanations"))
    live = any(each.startswith(sources.CAMERA) for each in options.inputs)
    counts = {"read": 0, "unread": 0, "faces": 0, "broken": 0, "error": 0.0}

    def broken():
        counts["broken"] += 1

    progress = _Progress(None if live else options.inputs)
    with open_rows(options.out, predictor.class_names) as out, Album(options.annotate, explain_to) as album:
        found = results(
            predictor, _frames(options, broken, progress), options.explain, options.annotate is not None, live
        )
        for result in found:
            counts["unread" if result.reason else "read"] += 1
            counts["faces"] += len(result.faces)
            for row in rows(result, predictor.class_names):
                if "explanation" in row:
                    counts["error"] = max(counts["error"], row["explanation"]["completeness_error"])
                out.write(row)
            if live and options.out is None:
                sys.stdout.flush()
            album.add(result, predictor.class_names)
            progress.show(counts["read"])
    progress.end()
    _summary(counts, options, explain_to)
    return 0 if counts["read"] else 1


def _frames(options, broken, progress):
    for name, why in sources.names(options.inputs):
        if why:
            yield sources.Frame(name, reason=why)
        else:
            yield from sources.frames(name, options.every, broken)
        progress.names += 1


def _summary(counts, options, explain_to):
    parts = [f"{counts['read']} pictures read, {counts['faces']} faces"]
    if counts["unread"]:
        parts.append(f"{counts['unread']} could not be read (see the column reason)")
    if counts["broken"]:
        parts.append(f"{counts['broken']} broken frames left out")
    if options.explain:
        parts.append(f"explanations in {explain_to}, largest completeness error {counts['error']:.2%}")
    print("covpool predict: " + "; ".join(parts), file=sys.stderr)


class _Progress:
    """Rate and time left on standard error, if it is a terminal."""

    def __init__(self, inputs) -> None:
        self.names = 0
        self._shown = sys.stderr.isatty()
        self._total = sum(1 for _ in sources.names(inputs)) if inputs and self._shown else 0
        self._start = self._last = time.monotonic()

    def show(self, read: int) -> None:
        now = time.monotonic()
        if not self._shown or now - self._last < PROGRESS:
            return
        self._last, passed = now, now - self._start
        line = f"{read} pictures, {read / passed:.1f} per second"
        if self._total > 1 and self.names:
            left = passed / self.names * max(self._total - self.names, 0)
            line += f", {self.names} of {self._total} files, {left:.0f} s left"
        print(f"\r{line}\033[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
