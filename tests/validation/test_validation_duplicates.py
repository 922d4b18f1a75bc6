"""Pictures that show the same are found in any coding, inside and across splits, and no others; what policies do."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from covpool.rendered import render_face
from covpool.validation import ValidationError, duplicates
from covpool.validation.duplicates import EXACT, MIRRORED, NEAR, find_duplicates, near_pairs, perceptual_hashes

MOST = 16

PHOTO = Image.fromarray(data.astronaut()[20:240, 110:330])


def grey(image):
    return np.asarray(image.convert("L"))


def hashes_of(image):
    return perceptual_hashes(grey(image))


def distance(one, two):
    return int(np.bitwise_count(one ^ two).sum())


def as_jpeg(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: as_jpeg(image, 40),
        lambda image: image.resize((73, 73)),
        lambda image: image.resize((440, 440)),
        lambda image: image.convert("L"),
        lambda image: image.point(lambda value: 0.7 * value),
        lambda image: as_jpeg(image.resize((110, 110)), 60),
    ],
    ids=["lower quality", "smaller", "larger", "grey", "darker", "smaller and lower quality"],
)
def test_a_copy_is_near_its_original(change):
    assert distance(hashes_of(change(PHOTO))[0], hashes_of(PHOTO)[0]) <= MOST / 2


def test_a_mirrored_copy_is_near_the_originals_mirror_image():
    mirrored = hashes_of(as_jpeg(PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 50))
    assert distance(mirrored[0], hashes_of(PHOTO)[1]) <= MOST / 2
    assert distance(mirrored[0], hashes_of(PHOTO)[0]) > 2 * MOST


def test_another_expression_of_a_person_is_another_picture():
    shots = [render_face(3, name, image_size=96, seed=5).image for name in ("neutral", "fear", "sadness")]
    hashes = [hashes_of(Image.fromarray(shot))[0] for shot in shots]
    distances = [distance(hashes[one], hashes[two]) for one, two in ((0, 1), (0, 2), (1, 2))]
    assert min(distances) > 2 * MOST


def test_a_flat_picture_has_no_hash():
    assert perceptual_hashes(np.full((40, 30), 7, np.uint8)) is None


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(0, 24))
def test_near_pairs_are_those_that_comparing_all_finds(seed, count, most):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (count, 32), dtype=np.uint8)
    # Half of them lie near another one, at any distance up to twice the limit.
    for index in range(count // 2, count):
        flipped = rng.choice(256, rng.integers(0, 2 * most + 2), replace=False)
        bits = np.unpackbits(hashes[rng.integers(0, index)])
        bits[flipped] ^= 1
        hashes[index] = np.packbits(bits)
    table = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(-1, dtype=int)
    wanted = [
        (one, two, table[one, two]) for one in range(count) for two in range(one + 1, count) if table[one, two] <= most
    ]
    assert list(near_pairs(hashes, most)) == wanted


def test_more_pairs_than_anyone_reads_are_refused(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 100)
    alike = np.zeros((20, 32), np.uint8)
    with pytest.raises(ValidationError, match="more than 100 pairs.*validate.near_distance is too large"):
        list(near_pairs(alike, 4))


class Manifest:
    """Rows of pictures whose looks are drawn: letters are looks, far from each other."""

    def __init__(self):
        self.rows, self.hashes = [], []
        self._rng = np.random.default_rng(1)
        self._looks = {}

    def add(self, split, look, content, name="a", turned=0, status="ok", mirrored=False):
        """A picture of `look` whose file is `content`, its hash turned by so many bits of the look's."""
        one, two = self._looks.setdefault(look, self._rng.integers(0, 256, (2, 32), dtype=np.uint8))
        if mirrored:
            one, two = two, one
        flips = np.packbits(np.arange(256) < turned)
        path = f"{split}/{name}/{len(self.rows)}.png"
        self.rows.append({"path": path, "split": split, "class": name, "sha256": content, "status": status})
        self.hashes.append(None if look is None else np.stack([one ^ flips, two ^ flips]))

    def found(self):
        return {
            each.index: (each.other, each.kind, each.distance) for each in find_duplicates(self.rows, self.hashes, MOST)
        }


@pytest.fixture
def manifest():
    return Manifest()


def test_the_first_of_a_split_stands_alone_and_later_ones_name_it(manifest):
    manifest.add("train", "p", "1")
    manifest.add("train", "q", "2")
    manifest.add("train", "p", "1")
    manifest.add("train", "p", "3", turned=5)
    manifest.add("train", "p", "4")
    assert manifest.found() == {2: (0, EXACT, 0), 3: (0, NEAR, 5), 4: (0, NEAR, 0)}


def test_pictures_shared_by_splits_name_each_other(manifest):
    manifest.add("train", "p", "1")
    manifest.add("train", "p", "1")
    manifest.add("val", "p", "1")
    manifest.add("test", "p", "2", turned=3)
    assert manifest.found() == {0: (2, EXACT, 0), 1: (2, EXACT, 0), 2: (0, EXACT, 0), 3: (0, NEAR, 3)}


def test_all_copies_in_a_split_are_told_of_the_other_split(manifest):
    """Though one of them alone is compared with the other split's."""
    for content in "123":
        manifest.add("train", "p", content)
    manifest.add("val", "p", "4", turned=2)
    assert {index: other for index, (other, _, _) in manifest.found().items()} == {0: 3, 1: 3, 2: 3, 3: 0}


def test_a_chain_is_not_followed_beyond_the_distance(manifest):
    manifest.add("train", "p", "1")
    manifest.add("train", "p", "2", turned=12)
    manifest.add("train", "p", "3", turned=24)
    assert manifest.found() == {1: (0, NEAR, 12)}


def test_a_mirror_image_is_told_as_one(manifest):
    manifest.add("train", "p", "1")
    manifest.add("val", "p", "2", mirrored=True)
    assert manifest.found() == {0: (1, MIRRORED, 0), 1: (0, MIRRORED, 0)}


def test_flat_pictures_are_duplicates_only_if_their_files_are(manifest):
    manifest.add("train", None, "black")
    manifest.add("train", None, "white")
    manifest.add("val", None, "white")
    assert manifest.found() == {1: (2, EXACT, 0), 2: (1, EXACT, 0)}


def test_bad_pictures_are_not_compared(manifest):
    manifest.add("train", "p", "1", status="bad")
    manifest.add("val", "p", "1")
    assert manifest.found() == {}


def test_dropping_from_train_leaves_one_of_each_there_and_other_splits_alone(manifest):
    manifest.add("train", "p", "1")
    manifest.add("train", "q", "2")
    manifest.add("train", "q", "3", turned=1)
    manifest.add("val", "p", "1")
    manifest.add("val", "r", "4")
    manifest.add("val", "r", "4")
    duplicates.mark(manifest.rows, find_duplicates(manifest.rows, manifest.hashes, MOST), "drop_from_train")
    told = [(row["status"], row.get("reason"), row.get("duplicate_of")) for row in manifest.rows]
    assert told == [
        ("left out", "duplicate of a picture of val", "val/a/3.png"),
        ("ok", None, None),
        ("left out", "duplicate of a picture of train", "train/a/1.png"),
        ("ok", None, "train/a/0.png"),
        ("ok", None, None),
        ("ok", None, "val/a/4.png"),
    ]
