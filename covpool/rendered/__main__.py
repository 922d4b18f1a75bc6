"""Draws a preview of the rendered faces: `stages/py -m covpool.rendered --sheet out.png`."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from covpool.rendered import CLASSES, render_face


def main() -> None:
    """Draw one row per identity and one column per class."""
    parser = argparse.ArgumentParser(prog="stages/py -m covpool.rendered", description=__doc__.splitlines()[0])
    parser.add_argument("--sheet", type=Path, required=True, help="PNG to write")
    parser.add_argument("--first", type=int, default=0, help="first identity (default 0)")
    parser.add_argument("--identities", type=int, default=4, help="rows (default 4)")
    parser.add_argument("--picture", type=int, default=0, help="picture number (default 0)")
    parser.add_argument("--size", type=int, default=176, help="pixels of a picture (default 176)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data set (default 0)")
    options = parser.parse_args()
    rows = []
    for identity in range(options.first, options.first + options.identities):
        shots = [
            render_face(identity, label, picture=options.picture, image_size=options.size, seed=options.seed)
            for label in CLASSES
        ]
        rows.append(np.hstack([shot.image for shot in shots]))
    if not cv2.imwrite(str(options.sheet), np.vstack(rows)[..., ::-1]):
        parser.error(f"cannot write {options.sheet}: check that its folder exists and is writable")
    print(f"{options.sheet}: columns {', '.join(CLASSES)}")


if __name__ == "__main__":
    main()
