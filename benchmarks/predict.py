"""Photos to expressions, end to end, beside the peers that carry their weights in their packages.

    stages/py -m benchmarks.predict --model exports/cpu/model.onnx [--peers PYTHON] [--photos 48]

Photos are 640x480 JPEG files with one or two faces. Ours does what `covpool predict FOLDER --out FILE` does: decode,
find all faces from 40 pixels on, score, write. PYTHON is the interpreter of an environment with fer 25.10 or facex 1.1;
each peer is used as its own documentation shows, with the files decoded by OpenCV. The first photo is not timed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from covpool.predict import Predictor, sources
from covpool.predict.output import open_rows
from covpool.predict.stream import results, rows

SIZE = (640, 480)
REPEATS = 3
#: Peer -> the program that reads paths from its arguments and prints the seconds of each photo but the first.
PEERS = {
    "fer": """
import json, sys, time, cv2
from fer.fer import FER
detector = FER()
seconds = []
for path in sys.argv[1:]:
    start = time.perf_counter()
    detector.detect_emotions(cv2.imread(path))
    seconds.append(time.perf_counter() - start)
print(json.dumps(sum(seconds[1:])))
""",
    "facex": """
import json, sys, time, cv2, facex
pool = facex.PoolManager(pool_size=2)
seconds = []
for path in sys.argv[1:]:
    start = time.perf_counter()
    pool.predict(cv2.imread(path))
    seconds.append(time.perf_counter() - start)
pool.shutdown()
print(json.dumps(sum(seconds[1:])))
""",
}


def draw_photos(folder: Path, count: int, faces: list) -> None:
    """Write photos with one or two of the pictures `faces` on smooth grounds."""
    rng = np.random.default_rng(0)
    for number in range(count):
        ground = cv2.resize(rng.integers(60, 200, [6, 8, 3], np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
        for place in range(1 + number % 2):
            side = int(rng.integers(120, 300))
            face = cv2.resize(cv2.imread(str(faces[(2 * number + place) % len(faces)])), (side, side))
            x, y = int(rng.integers(0, 320 - side)) + 320 * place, int(rng.integers(0, SIZE[1] - side))
            ground[y : y + side, x : x + side] = face
        cv2.imwrite(str(folder / f"{number:04}.jpg"), ground)


def ours(predictor: Predictor, paths: list, out: Path) -> tuple:
    """Seconds for all photos but the first, and the faces found."""
    predictor.predict(paths[0])
    start, found = time.perf_counter(), 0
    with open_rows(out, predictor.class_names) as stream:
        frames = (frame for path in paths[1:] for frame in sources.frames(str(path)))
        for result in results(predictor, frames):
            found += len(result.faces)
            for row in rows(result, predictor.class_names):
                stream.write(row)
    return time.perf_counter() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="an exported network")
    parser.add_argument("--faces", type=Path, default=Path("data/raw/val"), help="folder of pictures of faces")
    parser.add_argument("--peers", help="a Python that has fer or facex")
    parser.add_argument("--photos", type=int, default=48, help="how many; default %(default)s")
    options = parser.parse_args()
    faces = sorted(options.faces.glob("**/*.png")) or sys.exit(f"{options.faces} has no PNG file: run `dvc repro`")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        draw_photos(place, options.photos, faces)
        paths = sorted(place.glob("*.jpg"))
        predictor = Predictor(options.model)
        figures = [ours(predictor, paths, place / "rows.csv") for _ in range(REPEATS)]
        rates = sorted((len(paths) - 1) / seconds for seconds, _ in figures)
        print(f"covpool: {rates[1]:.1f} photos per second ({rates[0]:.1f}-{rates[-1]:.1f}), {figures[0][1]} faces")
        for name, code in PEERS.items() if options.peers else ():
            command = [options.peers, "-c", code, *map(str, paths)]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                print(f"{name}: not measured: {(run.stderr.strip().splitlines() or ['it failed'])[-1]}")
                continue
            print(f"{name}: {(len(paths) - 1) / json.loads(run.stdout.splitlines()[-1]):.1f} photos per second")


if __name__ == "__main__":
    main()
