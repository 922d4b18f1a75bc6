"""The input of the network: faces on the disk, the warp that augments them, and their normalisation."""

import collections
from pathlib import Path
from typing import Callable, Dict, Sequence, Union

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.pipeline import artifacts
from covpool.pipeline.arrays import read_face_array

Faces = collections.namedtuple("Faces", ["images", "labels", "sources"])


def load_faces(folder: Path, split: str, class_names: Sequence[str], size: int) -> Faces:
    """Map one split of the normalised data set from the disk.

    Args:
        folder: `data/faces`.
        split: train, val or test.
        class_names: the classes, in the order of the labels.
        size: the least height and width that the pictures must have.

    Returns:
        `images` uint8 [n, h, w, 3], `labels` int32 [n], and n `sources`.

    Raises:
        ArtifactError: the split is missing or empty, or the array, its table and the classes do not fit each other.
    """
    folder = Path(folder)
    path, table = folder / (split + ".npy"), folder / (split + ".csv")
    found = artifacts.read_json(folder / "classes.json")
    if found != list(class_names):
        raise artifacts.ArtifactError(
            f"{folder}: expected faces of the classes {', '.join(class_names)}, got {', '.join(map(str, found))}. Run "
            "`dvc repro`."
        )
    if not table.is_file():
        there = [name for name in artifacts.SPLITS if (folder / (name + ".csv")).is_file()]
        raise artifacts.ArtifactError(
            f"{folder}: the data set has no split {split!r}; it has {', '.join(there) or 'none'}. Training needs "
            "train and val, evaluation at least one of those in evaluate.splits."
        )
    rows = artifacts.read_csv(table, ("label", "class", "source"))
    if not rows:
        raise artifacts.ArtifactError(
            f"{table} has no rows: the split {split!r} is empty. Run the stage normalise again."
        )
    images = read_face_array(path, len(rows))
    if min(images.shape[1:3]) < size:
        height, width = images.shape[1:3]
        raise artifacts.ArtifactError(
            f"{path}: expected pictures of at least {size}x{size} pixels (the network's input, and twice "
            "normalise.margin for "
            f"train.random_crop), got {height}x{width}. Run the stage normalise again."
        )
    labels = np.array([_label(table, number, row, class_names) for number, row in enumerate(rows, 2)], np.int32)
    return Faces(images, labels, [row["source"] for row in rows])


def _label(table, line, row, class_names):
    label = int(row["label"]) if row["label"].isdigit() else -1
    if not 0 <= label < len(class_names) or class_names[label] != row["class"]:
        raise artifacts.ArtifactError(
            f"{table}:{line}: the label {row['label']!r} is not the position of {row['class']!r} in the classes "
            f"{', '.join(class_names)}. Run the stage normalise again."
        )
    return label


def batches(faces: Faces, plan, start: Callable[[], int], stop: int, size: int, threads: int) -> tf.data.Dataset:
    """A dataset of augmented batches, in the order of the plan.

    Args:
        faces: the training split.
        plan: which pictures a step takes, and how each is augmented.
        start: gives the first step; it is called when the iterator is initialised, when it is known where a run
        resumes.
        stop: the step at which the dataset ends.
        size: height and width of the pictures that it gives.
        threads: that augment.

    Returns:
        Pictures, float32 [b, size, size, 3] in 0..255, and labels, int32 [b]; all shapes are static.
    """
    height, width = faces.images.shape[1:3]
    count = plan.batch_size

    def rows():
        for number in range(start(), stop):
            batch = plan.step(number)
            yield faces.images[batch.indices], faces.labels[batch.indices], batch.augmentation

    shapes = (tf.TensorShape([count, height, width, 3]), tf.TensorShape([count]), tf.TensorShape([count, 4]))
    dataset = tf.data.Dataset.from_generator(rows, (tf.uint8, tf.int32, tf.float32), shapes)

    # Plain graph code: AutoGraph has nothing to convert.
    @tf.autograph.experimental.do_not_convert
    def augmented(images, labels, augmentation):
        return augment(images, augmentation, size), labels

    return _on_threads_of_its_own(dataset.map(augmented, num_parallel_calls=threads).prefetch(2), threads)


def _on_threads_of_its_own(dataset, threads):
    """Own threads: in the common pool the next step's pictures would wait for this step's operations."""
    options = tf.data.Options()
    threading = getattr(options, "threading", None) or options.experimental_threading
    threading.private_threadpool_size = threads
    return dataset.with_options(options)


def augment(images: tf.Tensor, augmentation: tf.Tensor, size: int) -> tf.Tensor:
    """Rotate, shift and mirror pictures and cut out the middle, in one bilinear warp.

    Args:
        images: uint8 or float [b, h, w, 3].
        augmentation: float32 [b, 4], rows of a plan: angle in radians (the face turns counter-clockwise), pixels
        that the
            window moves down and right, and 1 for a mirrored picture.
        size: height and width of the result.

    Returns:
        float32 [b, size, size, 3]. Shifts of whole pixels are exact; outside the picture its edge is repeated.
    """
    count, height, width = (int(length) for length in images.shape[:3])
    angle, down, right, mirrored = (tf.reshape(column, [-1, 1, 1]) for column in tf.unstack(augmentation, axis=1))
    steps = tf.cast(tf.range(size), tf.float32) - (size - 1) / 2.0
    y, x = tf.reshape(steps, [1, size, 1]), tf.reshape(steps, [1, 1, size])
    x = x * (1.0 - 2.0 * mirrored)
    source_y = tf.cos(angle) * y + tf.sin(angle) * x + (height - 1) / 2.0 + down
    source_x = tf.cos(angle) * x - tf.sin(angle) * y + (width - 1) / 2.0 + right
    return _sample(images, source_y, source_x, count, height, width)


def _sample(images, y, x, count, height, width):
    """Bilinear values of [b, h, w, 3] at the positions y, x [b, size, size], which are clamped to the picture."""
    y = tf.clip_by_value(y, 0.0, height - 1.0)
    x = tf.clip_by_value(x, 0.0, width - 1.0)
    top, left = tf.floor(y), tf.floor(x)
    along_y, along_x = tf.expand_dims(y - top, -1), tf.expand_dims(x - left, -1)
    top, left = tf.cast(top, tf.int32), tf.cast(left, tf.int32)
    bottom, right = tf.minimum(top + 1, height - 1), tf.minimum(left + 1, width - 1)
    first = tf.reshape(tf.range(count) * (height * width), [count, 1, 1])
    pixels = tf.reshape(images, [count * height * width, 3])

    def at(row, column):
        # Bytes stay bytes until here: a quarter of the memory.
        return tf.cast(tf.gather(pixels, first + row * width + column), tf.float32)

    upper = _between(at(top, left), at(top, right), along_x)
    lower = _between(at(bottom, left), at(bottom, right), along_x)
    return _between(upper, lower, along_y)


def _between(first, second, share):
    """Linear interpolation, `first` at share 0, with one product: broadcasting share over the colours is slow."""
    return first + (second - first) * share


def center(images: np.ndarray, size: int) -> np.ndarray:
    """The middle `size` x `size` pixels of pictures [n, h, w, 3], a view.

    Raises:
        ArtifactError: the pictures are smaller than that.
    """
    top, left = (images.shape[1] - size) // 2, (images.shape[2] - size) // 2
    if top < 0 or left < 0:
        raise artifacts.ArtifactError(
            f"expected pictures of at least {size}x{size} pixels, the network's input, got "
            f"{images.shape[1]}x{images.shape[2]}"
        )
    return images[:, top : top + size, left : left + size]


def normalise(images: tf.Tensor, rule: str) -> tf.Tensor:
    """Pictures in 0..255 as the network sees them.

    Args:
        images: [b, h, w, 3].
        rule: `per_image`: mean 0 and standard deviation 1 for each picture, the authors' input (a flat picture stays
            finite: the deviation is at least that of one grey level in one of its values); `none`: as they are, the
            Ascend port's.

    Returns:
        float32 [b, h, w, 3].
    """
    images = tf.cast(images, tf.float32)
    if rule == "none":
        return images
    values = int(images.shape[1]) * int(images.shape[2]) * int(images.shape[3])
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    centred = images - mean
    deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), axis=[1, 2, 3], keepdims=True))
    return centred / tf.maximum(deviation, 1.0 / np.sqrt(values))


def in_batches(function: Callable, images: np.ndarray, batch_size: int) -> Union[np.ndarray, Dict[str, np.ndarray]]:
    """Apply a function to all pictures, `batch_size` at a time.

    Each call gets a full batch, the last one filled up with its last picture (with black if there is none at all), so
    that every shape is the same.

    Args:
        function: of pictures [batch_size, h, w, c]; gives an array, or a dictionary of arrays.
        images: [n, h, w, c].
        batch_size: pictures in a call.

    Returns:
        What the function gave for all pictures together.
    """
    parts = []
    for start in range(0, max(1, len(images)), batch_size):
        batch = np.asarray(images[start : start + batch_size])
        missing = batch_size - len(batch)
        filling = batch[-1:] if len(batch) else np.zeros((1,) + images.shape[1:], images.dtype)
        full = np.concatenate([batch, np.repeat(filling, missing, axis=0)]) if missing else batch
        found = function(full)
        keep = batch_size - missing
        parts.append({key: value[:keep] for key, value in found.items()} if isinstance(found, dict) else found[:keep])
    if isinstance(parts[0], dict):
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)
