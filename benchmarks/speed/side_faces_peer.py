"""Faces found by the package mtcnn: MTCNN on TensorFlow 2, its weights in the package."""

import importlib.metadata
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
from mtcnn import MTCNN  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks.speed import answering  # noqa: E402


class Side:
    def detect(self, folder):
        """Seconds a picture, and in how many a face was found."""
        detector = MTCNN(device="CPU:0")
        pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(Path(folder).glob("*.png"))]
        # TensorFlow traces for each shape that it meets: twice before the clock runs.
        for _ in range(2):
            detector.detect_faces(pictures[0])
        seconds, found = [], 0
        for picture in pictures:
            before = time.perf_counter()
            found += bool(detector.detect_faces(picture))
            seconds.append(time.perf_counter() - before)
        return {"seconds": seconds, "found": found}

    def about(self):
        return {name: importlib.metadata.version(name) for name in ("mtcnn", "tensorflow-cpu")}


def main():
    side = Side()
    answering.serve({"detect": side.detect, "about": side.about})


if __name__ == "__main__":
    main()
