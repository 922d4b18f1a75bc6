"""Makes the README's pictures from the artifacts of a finished run of the default pipeline.

stages/py docs/pictures/make.py     (report.png also needs Chromium on the PATH)
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from covpool.pipeline import artifacts

HERE = Path(__file__).resolve().parent
PEOPLE = ("id0021", "id0026", "id0014", "id0033")
ENLARGED = 1.25


def faces(classes):
    """A row of aligned faces a person, a column an expression."""
    images = np.load(artifacts.FACES / "train.npy", mmap_mode="r")
    rows = artifacts.read_csv(artifacts.FACES / "train.csv")
    place = {(row["class"], Path(row["source"]).name.split("_")[0]): index for index, row in enumerate(rows)}
    grid = [np.concatenate([images[place[name, person]] for name in classes], axis=1) for person in PEOPLE]
    picture = Image.fromarray(np.concatenate(grid))
    return picture.resize([round(ENLARGED * side) for side in picture.size], Image.Resampling.LANCZOS)


def report():
    """The top of the report's page, as a browser shows it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--user-data-dir=" + profile,
                "--window-size=1100,1250",
                "--screenshot={}".format(HERE / "report.png"),
                (artifacts.REPORTS / "index.html").resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    faces(artifacts.read_json(artifacts.FACES / "classes.json")).save(HERE / "faces.png", optimize=True)
    report()
