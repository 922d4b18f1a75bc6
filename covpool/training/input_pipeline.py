"""Pictures on their way into the network: the faces on disk, the warp that augments them, and their normalisation."""

import collections
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.pipeline import artifacts

Faces = collections.namedtuple("Faces", ["images", "labels", "sources"])


def load_faces(folder, split, classes, size):
    """One split of the normalised data set, mapped from the disk: uint8 [n, h, w, 3], int32 [n], n names.

    size: the least height and width that the pictures must have.

    Raises ArtifactError where the split is missing or empty, or where the array, its table and the classes do not fit
    each other.
    """
    folder = Path(folder)
    path, table = folder / (split + ".npy"), folder / (split + ".csv")
    found = artifacts.read_json(folder / "classes.json")
    if found != list(classes):
        raise artifacts.ArtifactError(
            "{}: the faces were made for the classes {}; wanted are {}. Run `dvc repro`.".format(
                folder, ", ".join(map(str, found)), ", ".join(classes)
            )
        )
    if not table.is_file():
        there = [name for name in artifacts.SPLITS if (folder / (name + ".csv")).is_file()]
        raise artifacts.ArtifactError(
            "{}: the data set has no split {!r}; it has {}. Training wants train and val, evaluation the split that "
            "evaluate.splits names.".format(folder, split, ", ".join(there) or "none")
        )
    rows = artifacts.read_csv(table, ("label", "class", "source"))
    images = _read_pictures(path, len(rows))
    if min(images.shape[1:3]) < size:
        raise artifacts.ArtifactError(
            "{}: the pictures are {}x{}; wanted are {}x{} or more (the network's input, and twice normalise.margin "
            "for train.random_crop). Run the stage normalise again.".format(path, *images.shape[1:3], size, size)
        )
    labels = np.array([_label(table, number, row, classes) for number, row in enumerate(rows, 2)], np.int32)
    return Faces(images, labels, [row["source"] for row in rows])


def _read_pictures(path, count):
    try:
        images = np.load(str(path), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise artifacts.ArtifactError(f"{path} is missing: run the stage normalise.") from None
    except (OSError, ValueError) as error:
        raise artifacts.ArtifactError(f"{path} can't be read: {error}. Run the stage normalise.") from None
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] != 3 or len(images) != count or not count:
        raise artifacts.ArtifactError(
            f"{path}: wanted uint8 [n, h, w, 3], a picture for each of the {count} rows of its table and one at least; it is "
            f"{images.dtype} {list(images.shape)}."
        )
    return images


def _label(table, line, row, classes):
    label = int(row["label"]) if row["label"].isdigit() else -1
    if not 0 <= label < len(classes) or classes[label] != row["class"]:
        raise artifacts.ArtifactError(
            "{}:{}: the label {!r} is not the place of {!r} in the classes {}.".format(
                table, line, row["label"], row["class"], ", ".join(classes)
            )
        )
    return label


def batches(faces, plan, start, stop, size, threads):
    """A dataset of augmented batches for the steps from `start()` up to, not including, `stop`.

    threads: that augment.
    `start` is asked when the iterator is initialised, by which time it is known where a run goes on. Gives float32
    [b, size, size, 3] in 0..255 and int32 [b], all of static shape. The order is the plan's.
    """
    height, width = faces.images.shape[1:3]
    count = plan.batch_size

    def rows():
        for number in range(start(), stop):
            batch = plan.step(number)
            yield faces.images[batch.indices], faces.labels[batch.indices], batch.augmentation

    shapes = (tf.TensorShape([count, height, width, 3]), tf.TensorShape([count]), tf.TensorShape([count, 4]))
    dataset = tf.data.Dataset.from_generator(rows, (tf.uint8, tf.int32, tf.float32), shapes)

    # Plain graph code: nothing for AutoGraph to convert.
    @tf.autograph.experimental.do_not_convert
    def augmented(images, labels, augmentation):
        return augment(images, augmentation, size), labels

    return _on_threads_of_its_own(dataset.map(augmented, num_parallel_calls=threads).prefetch(2), threads)


def _on_threads_of_its_own(dataset, threads):
    """Else the pictures of the next step would wait in line behind the operations of this one."""
    options = tf.data.Options()
    threading = getattr(options, "threading", None) or options.experimental_threading
    threading.private_threadpool_size = threads
    return dataset.with_options(options)


def augment(images, augmentation, size):
    """Turn, shift and mirror pictures and cut out the middle, in one bilinear warp.

    images: uint8 or float [b, h, w, 3]; augmentation: float32 [b, 4], rows of a plan: angle in radians (the face turns
    counter-clockwise), pixels down and right that the window moves, mirrored or not.

    Returns float32 [b, size, size, 3]. Whole pixels are moved exactly; what lies outside repeats the picture's edge.
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
        # Bytes until here, where they come as bytes: a quarter of the memory.
        return tf.cast(tf.gather(pixels, first + row * width + column), tf.float32)

    upper = _between(at(top, left), at(top, right), along_x)
    lower = _between(at(bottom, left), at(bottom, right), along_x)
    return _between(upper, lower, along_y)


def _between(first, second, share):
    """`first` where share is 0. Only one product: share is broadcast over the colours, which is slow."""
    return first + (second - first) * share


def center(images, size):
    """The middle `size` x `size` of pictures [n, h, w, 3], a view."""
    top, left = (images.shape[1] - size) // 2, (images.shape[2] - size) // 2
    if top < 0 or left < 0:
        raise artifacts.ArtifactError(
            "the pictures are {}x{}, smaller than the network's input, {}x{}".format(*images.shape[1:3], size, size)
        )
    return images[:, top : top + size, left : left + size]


def normalise(images, rule):
    """Pictures in 0..255 as the network is to see them: float32 [b, h, w, 3].

    rule: `per_image`: mean 0 and deviation 1 for each picture (the authors' input; a flat picture stays finite, as the
    deviation is at least that of one grey level in one of its values); `none`: as they are (the Ascend port's).
    """
    images = tf.cast(images, tf.float32)
    if rule == "none":
        return images
    values = int(images.shape[1]) * int(images.shape[2]) * int(images.shape[3])
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    centred = images - mean
    deviation = tf.sqrt(tf.reduce_mean(tf.square(centred), axis=[1, 2, 3], keepdims=True))
    return centred / tf.maximum(deviation, 1.0 / np.sqrt(values))


def in_batches(function, images, batch_size):
    """`function` of all pictures [n, h, w, c], `batch_size` at a time: an array, or a dictionary of them.

    Each call sees a full batch, the last one filled up with its last picture (with black where there is none at all),
    so that every shape is the same.
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
