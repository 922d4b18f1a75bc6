"""Pictures on their way into the network: the warp against SciPy, normalisation, batches, and faces that do not fit."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from covpool.pipeline import artifacts
from covpool.training import input_pipeline
from covpool.training.plan import Plan
from tests.tf.training import training_project

SIZE, MARGIN, COUNT = 20, 6, 3


@pytest.fixture(scope="module")
def augment():
    """augment(images [3, 32, 32, 3], rows of augmentation) -> [3, 20, 20, 3]."""
    graph = tf.Graph()
    with graph.as_default():
        side = SIZE + 2 * MARGIN
        images = tf.placeholder(tf.uint8, [COUNT, side, side, 3])
        rows = tf.placeholder(tf.float32, [COUNT, 4])
        outputs = input_pipeline.augment(images, rows, SIZE)
        assert outputs.shape.as_list() == [COUNT, SIZE, SIZE, 3]
    with tf.Session(graph=graph) as session:
        yield lambda values, augmentation: session.run(outputs, {images: values, rows: augmentation})


def noise(seed=0):
    side = SIZE + 2 * MARGIN
    return np.random.RandomState(seed).randint(0, 256, (COUNT, side, side, 3)).astype(np.uint8)


shifts = st.integers(-MARGIN, MARGIN)


@settings(max_examples=30, deadline=None)
@given(down=shifts, right=shifts, mirrored=st.booleans())
def test_whole_pixels_are_moved_and_mirrored_exactly(augment, down, right, mirrored):
    images = noise()
    found = augment(images, [[0, down, right, mirrored]] * COUNT)
    top, left = MARGIN + down, MARGIN + right
    expected = images[:, top : top + SIZE, left : left + SIZE]
    np.testing.assert_array_equal(found, expected[:, :, ::-1] if mirrored else expected)


@settings(max_examples=20, deadline=None)
@given(degrees=st.floats(-180, 180, width=32), down=shifts, right=shifts)
def test_turning_is_scipys(augment, degrees, down, right):
    images = noise(1)
    found = augment(images, [[np.deg2rad(degrees), down, right, 0]] * COUNT)
    side = SIZE + 2 * MARGIN
    # A turn about the middle of the window that was moved: shift there first, edges repeated, then turn.
    rows = np.clip(np.arange(side) + down, 0, side - 1)
    columns = np.clip(np.arange(side) + right, 0, side - 1)
    moved = images[:, rows][:, :, columns].astype(float)
    turned = ndimage.rotate(moved, degrees, axes=(2, 1), reshape=False, order=1, mode="nearest")
    middle = slice(MARGIN, MARGIN + SIZE)
    inside = np.hypot(*np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) + max(abs(down), abs(right)) < side / 2 - 1
    difference = np.abs(found - turned[:, middle, middle])[:, inside]
    assert difference.max() < 0.02


def test_a_positive_angle_turns_the_face_counter_clockwise(augment):
    images = np.zeros((COUNT, 32, 32, 3), np.uint8)
    images[:, 14:18, 22:24] = 255  # a bar on the right of the middle
    found = augment(images, [[np.pi / 2, 0, 0, 0], [-np.pi / 2, 0, 0, 0], [np.pi, 0, 0, 0]])
    rows, columns = np.mgrid[:SIZE, :SIZE]
    centres = [(float((rows * f).sum() / f.sum()), float((columns * f).sum() / f.sum())) for f in found[..., 0]]
    np.testing.assert_allclose(centres, [(2.5, 9.5), (16.5, 9.5), (9.5, 2.5)], atol=0.01)


def test_what_lies_outside_repeats_the_edge(augment):
    images = np.zeros((COUNT, 32, 32, 3), np.uint8)
    images[:, 0], images[:, -1] = 50, 90
    found = augment(images, [[0, -20, 0, 0], [0, 40, 0, 0], [0, 0, 0, 0]])
    assert (found[0] == 50)[:14].all() and (found[1] == 90).all() and (found[2] == 0).all()


def run(tensor):
    with tf.Session() as session:
        return session.run(tensor)


def test_each_picture_is_standardised_alone():
    images = noise(2)
    found = run(input_pipeline.normalise(tf.constant(images), "per_image")).astype(np.float64)
    wide = images.astype(np.float64)
    for one, source in zip(found, wide):
        np.testing.assert_allclose(one, (source - source.mean()) / source.std(), atol=1e-5)


def test_a_flat_picture_stays_finite_and_none_means_none():
    flat = np.full((2, 5, 5, 3), 200, np.uint8)
    np.testing.assert_array_equal(run(input_pipeline.normalise(tf.constant(flat), "per_image")), np.zeros((2, 5, 5, 3)))
    np.testing.assert_array_equal(
        run(input_pipeline.normalise(tf.constant(flat), "none")), np.full((2, 5, 5, 3), 200.0)
    )


@settings(deadline=None)
@given(count=st.integers(1, 30), batch=st.integers(1, 12))
def test_in_batches_every_picture_comes_once_in_full_batches(count, batch):
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    seen = []

    def function(part):
        seen.append(len(part))
        return {"double": part[:, 0, 0, 0] * 2.0, "same": part}

    found = input_pipeline.in_batches(function, images, batch)
    np.testing.assert_array_equal(found["double"], 2.0 * np.arange(count))
    np.testing.assert_array_equal(found["same"], images)
    assert set(seen) == {batch}
    np.testing.assert_array_equal(input_pipeline.in_batches(lambda part: part, images, batch), images)


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_follow_the_plan_from_any_step_on_whatever_the_threads(threads):
    rng = np.random.RandomState(3)
    faces = input_pipeline.Faces(
        rng.randint(0, 256, (11, 32, 32, 3)).astype(np.uint8), np.arange(11, dtype=np.int32), []
    )
    plan = Plan(count=11, batch_size=4, margin=MARGIN, degrees=0, flip=True, seed=5)
    iterator = tf.data.make_initializable_iterator(input_pipeline.batches(faces, plan, lambda: 7, 12, SIZE, threads))
    images, labels = iterator.get_next()
    with tf.Session() as session:
        session.run(iterator.initializer)
        for number in range(7, 12):
            batch = plan.step(number)
            found, found_labels = session.run([images, labels])
            np.testing.assert_array_equal(found_labels, batch.indices)
            for one, picture, (_, down, right, mirrored) in zip(found, batch.indices, batch.augmentation):
                top, left = int(MARGIN + down), int(MARGIN + right)
                window = faces.images[picture, top : top + SIZE, left : left + SIZE]
                np.testing.assert_array_equal(one, window[:, ::-1] if mirrored else window)
        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(images)


@pytest.fixture
def folder(tmp_path):
    training_project.write_faces(tmp_path / "faces", {"train": 9}, size=40)
    return tmp_path / "faces"


def test_faces_are_read_with_their_labels(folder):
    faces = input_pipeline.load_faces(folder, "train", training_project.CLASSES, 40)
    assert faces.images.shape == (9, 40, 40, 3) and list(faces.labels) == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert faces.sources[8] == "train/8.png"


def refused(folder, split="train", classes=training_project.CLASSES, size=40):
    with pytest.raises(artifacts.ArtifactError) as message:
        input_pipeline.load_faces(folder, split, classes, size)
    return str(message.value)


def test_faces_that_do_not_fit_are_refused(folder):
    assert "40x40" in refused(folder, size=48) and "48x48" in refused(folder, size=48)
    assert "no split 'val'" in refused(folder, split="val") and "it has train" in refused(folder, split="val")
    assert "classes joy, anger" in refused(folder, classes=("joy", "anger"))
    assert "dvc repro" in refused(folder.parent)
    table = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(table.replace("2,fear", "3,fear", 1))
    assert "train.csv:4: the label '3'" in refused(folder)
    (folder / "train.csv").write_text(table.replace("2,fear", "x,fear", 1))
    assert "train.csv:4: the label 'x'" in refused(folder)
    (folder / "train.csv").write_text(table.rsplit("\n", 2)[0] + "\n")
    assert "uint8 [8, h, w, 3]" in refused(folder) and "[9, 40, 40, 3]" in refused(folder)
    (folder / "train.npy").write_bytes(b"no array")
    assert "train.npy is not a NumPy array" in refused(folder)
    (folder / "train.npy").unlink()
    assert "train.npy is missing" in refused(folder)


def test_an_empty_split_is_refused(tmp_path):
    training_project.write_faces(tmp_path / "faces", {"train": 0})
    assert "the split 'train' is empty" in refused(tmp_path / "faces")
