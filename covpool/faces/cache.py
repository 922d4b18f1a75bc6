"""Remembers what a detector found in a picture, by the picture's content.

Detection is the slow part of normalising, and depends on the bytes of the picture and on the detector alone: not on
the picture's name, split or class, nor on the size of the crops or the least score. So adding pictures, moving them
or changing the crops detects only what is new, and an interrupted run goes on where it stopped.

Each picture has a small JSON file `<settings>/<first two digits>/<sha256>.json`. It is written whole or not at all.
What can't be read, or doesn't fit its own checksum, counts as absent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from covpool.faces.detectors import Face
from covpool.pipeline import artifacts

# Hexadecimal digits of the settings' hash that name their folder.
_KEY_DIGITS = 16


class DetectionCache:
    """Findings of one detector in `folder`, keyed by its `settings`; several processes may use it at once."""

    def __init__(self, folder: Path, settings: dict) -> None:
        self._folder = Path(folder) / artifacts.content_hash(settings)[:_KEY_DIGITS]

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / f"{sha256}.json"

    def get(self, sha256: str) -> tuple[bool, Face | None]:
        """Return (whether the picture is known, the face found in it or None)."""
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
        found = (
            None
            if face is None
            else {
                "box": list(face.box),
                "landmarks": face.landmarks.tolist(),
                "score": face.score,
            }
        )
        path = self._path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        # Not flushed to the disk, unlike the pipeline's outputs: after a power cut the checksum tells what was lost.
        temporary.write_text(artifacts.dump_json(artifacts.seal({"sha256": sha256, "face": found})), encoding="utf-8")
        os.replace(temporary, path)
