"""`covpool serve`: a page and an HTTP interface on this computer."""

from __future__ import annotations

import argparse
import socket
import sys

from covpool.faces.detectors import DetectorMissing
from covpool.pipeline.cores import usable_cores
from covpool.pipeline.stage_frame import sentences
from covpool.predict import InputError, ModelError, Predictor
from covpool.predict.command import find_model
from covpool.predict.predictor import MIN_FACE

HOST, PORT = "127.0.0.1", 8765
#: Requests that are worked on at once, at least: a small one must not wait for a large one.
WORKERS = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command until it is interrupted."""
    parser = argparse.ArgumentParser(prog="covpool serve", description=__doc__)
    add = parser.add_argument
    add("--model", help="a model.onnx, or the name of an exported run; default: the first of `devices` in params.yaml")
    add("--port", type=int, default=PORT, help="port of 127.0.0.1, 0 for any free one; default %(default)s")
    add("--min-face", type=int, default=MIN_FACE, help="smallest face to look for, in pixels; default %(default)s")
    add("--min-score", type=float, help="a face less certain than this is left out; default: as in training")
    options = parser.parse_args(arguments)
    with sentences("covpool serve", ModelError, InputError, DetectorMissing):
        listener = listen(options.port)
        predictor = Predictor(find_model(options.model), min_face=options.min_face, min_score=options.min_score)
        return serve(predictor, listener)


def listen(port: int) -> socket.socket:
    """A socket on this port of the loopback interface. Raises InputError if it can't be used."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        # Two processes may bind the same port; only one may listen.
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"port {port} can't be used: {reason}. Choose another one with --port.") from None
    return listener


def serve(predictor: Predictor, listener: socket.socket) -> int:
    """Serve the page until it is interrupted; returns the exit code."""
    try:
        import uvicorn

        from covpool.serve.app import create_app
    except ModuleNotFoundError as error:
        raise InputError(f"the package {error.name} is missing. Run: pip install '.[predict]'") from None
    port = listener.getsockname()[1]
    print(f"covpool serve: open http://{HOST}:{port}/ in a browser (Ctrl-C ends it)", flush=True)
    config = uvicorn.Config(
        create_app(predictor, max(WORKERS, usable_cores())),
        http="h11",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        print("\ncovpool serve: ended", file=sys.stderr)
    return 0
