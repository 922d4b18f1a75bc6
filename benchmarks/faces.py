"""How well and how fast faces are found and brought to one frame: the figures of docs/faces.md.

    stages/py benchmarks/faces.py [--people 20] [--detector mtcnn]

Accuracy: drawn people, each with an expression, and each of their pictures tilted (-40 to 40 degrees), scaled (0.3 to
3 times), shifted, and every other one mirrored. The landmarks of the upright picture are carried to the crop through
the transform that was estimated in the changed picture, and through the true one; their mean distance is the error, as
a share of the distance between the eyes. Speed: pictures a second of the same pictures, unchanged, on one core.
"""

import argparse
import time

import cv2
import numpy as np

from covpool.faces import align, create, detect, geometry
from covpool.rendered import CLASSES, render_face

SIZE, MARGIN = 100, 6
EYES = geometry.EYE_DISTANCE * SIZE / geometry.FRAME
CHANGES = 10
CERTAIN = 0.9
#: Seeds of the pictures and of their changes; the pictures are none of the default data set's.
PICTURES, CHANGED = 4242, 7


def main():
    parser = argparse.ArgumentParser(description="Accuracy and speed of the detectors.")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--detector", default="mtcnn")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detector = create(options.detector)
    expressions = [CLASSES[person % len(CLASSES)] for person in range(options.people)]
    images = [render_face(person, name, seed=PICTURES).image for person, name in enumerate(expressions)]
    rng = np.random.default_rng(CHANGED)
    errors, mirrored, mirrors, missed = [], [], [], 0
    for image in images:
        upright = detect(image, detector)
        if upright is None or upright.score < CERTAIN:
            missed += 1 + CHANGES
            continue
        for number in range(CHANGES):
            changed, matrix = change(image, upright.landmarks.mean(0), rng)
            landmarks = geometry.transform_points(matrix, upright.landmarks)
            if number % 2:
                changed = np.ascontiguousarray(changed[:, ::-1])
            found = detect(changed, detector)
            if found is None or found.score < CERTAIN:
                missed += 1
                continue
            seen = geometry.mirror_points(found.landmarks, changed.shape[1]) if number % 2 else found.landmarks
            true = geometry.compose(transform(upright.landmarks), geometry.invert(matrix))
            (mirrored if number % 2 else errors).append(disagreement(transform(seen), true, landmarks))
        mirrors.append(mirror_difference(image, upright, detector))
    looked = len(images) * (1 + CHANGES)
    print(f"{options.detector}: found in {looked - missed} of {looked} pictures")
    for name, values in (("tilted, scaled, shifted", errors), ("and mirrored", mirrored)):
        print(
            f"  error, {name}: mean {np.mean(values):.2%}, 95th percentile {np.percentile(values, 95):.2%}, "
            f"largest {np.max(values):.2%}"
        )
    print(
        f"  crop of the mirrored picture, mirrored back: differs by {np.mean(mirrors):.2f} grey levels in the mean, "
        f"{np.max(mirrors):.2f} in the worst picture"
    )
    start = time.perf_counter()
    for image in images:
        face = detect(image, detector)
        if face is not None:
            align(image, face.landmarks, SIZE, MARGIN)
    speed = len(images) / (time.perf_counter() - start)
    print(f"  {speed:.0f} pictures of {images[0].shape[1]}x{images[0].shape[0]} a second")


def change(image, centre, rng):
    """Tilt and scale a picture about its face, which is shifted to near the middle: the picture and the matrix."""
    angle, scale = np.radians(rng.uniform(-40, 40)), np.exp(rng.uniform(np.log(0.3), np.log(3)))
    side = round(image.shape[0] * scale * 1.25)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([linear, (side - 1) / 2 + rng.uniform(-0.1, 0.1, 2) * side - linear @ centre])
    return geometry.warp(image, matrix, (side, side)), matrix


def transform(landmarks):
    return geometry.face_transform(landmarks, SIZE, MARGIN)


def disagreement(estimated, true, landmarks):
    carried = [geometry.transform_points(matrix, landmarks) for matrix in (estimated, true)]
    return np.linalg.norm(carried[0] - carried[1], axis=1).mean() / EYES


def mirror_difference(image, face, detector):
    flipped = np.ascontiguousarray(image[:, ::-1])
    mirrored = detect(flipped, detector)
    back = align(flipped, mirrored.landmarks, SIZE, MARGIN)[:, ::-1].astype(float)
    return np.abs(back - align(image, face.landmarks, SIZE, MARGIN)).mean()


if __name__ == "__main__":
    main()
