"""Keeps what a detector found in a picture, by the picture's content.

Detection is the slow part of normalising. It depends only on the picture's bytes and on the detector, not on the
picture's name, split or class, the size of the crops or the minimum score. So if pictures are added or moved, or the
crops change, only new pictures are detected, and an interrupted run resumes where it stopped.

Each picture has a small JSON file `<settings>/<first two digits>/<sha256>.json`, which is written completely or not at
all. A file that can't be read, or that does not match its own checksum, is ignored.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np

from covpool.faces.detectors import Face
from covpool.pipeline import artifacts

# Hexadecimal digits of the settings' hash that name their folder.
_KEY_DIGITS = 16


class DetectionCache:
    """The detections of one detector. Several processes may use the cache at once.

    Args:
        folder: the cache's folder, for all detectors.
        settings: JSON that names everything a detection depends on (`Detector.settings`).
    """

    def __init__(self, folder: Path, settings: dict) -> None:
        self._folder = Path(folder) / artifacts.content_hash(settings)[:_KEY_DIGITS]

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / f"{sha256}.json"

    def get(self, sha256: str) -> tuple[bool, Face | None]:
        """Look a picture up.

        Args:
            sha256: of the picture's bytes, in hexadecimal digits.

        Returns:
            Whether the picture is known, and the face that was found in it (None: it has none).
        """
        try:
            record = json.loads(self._path(sha256).read_text(encoding="utf-8"))
            if not artifacts.seal_is_intact(record) or record["sha256"] != sha256:
                return False, None
            found = record["face"]
            if found is None:
                return True, None
            box, landmarks = tuple(found["box"]), np.array(found["landmarks"], np.float64)
            if len(box) != 4 or landmarks.shape != (5, 2):
                return False, None
            return True, Face(box, landmarks, float(found["score"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return False, None

    def put(self, sha256: str, face: Face | None) -> None:
        """Keep what was found in a picture; `face` None says that it has no face.

        Raises:
            OSError: if the disk is full or the folder is not writable, with the folder as `filename`.
        """
        found = None
        if face is not None:
            found = {"box": list(face.box), "landmarks": face.landmarks.tolist(), "score": face.score}
        text = artifacts.dump_json(artifacts.seal({"sha256": sha256, "face": found}))
        path = self._path(sha256)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not flushed to the disk, unlike the pipeline's outputs: the checksum finds what a power cut has damaged.
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            # A full disk has no name in the error, and the cache may be on another disk than the results.
            raise OSError(error.errno, error.strerror, str(path.parent)) from error
