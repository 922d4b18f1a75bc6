"""Finds exact and near duplicates. Inside a split they count twice; across splits they leak test data into training.

Near duplicates are found by a perceptual hash of 256 bits: whether each of the 16x16 lowest frequencies of the
picture's discrete cosine transform is above their median (ImageHash's `phash`). Copies in another format, quality or
size differ in at most 8 bits of 256. Two expressions of one person before the same background differ in 48 bits or
more, both in whole pictures and in aligned faces (measured on the 532 drawn pictures). Mirror images are found as well,
because training mirrors pictures at random.

Multi-index hashing (Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012) avoids
comparing all pairs. Split the bits of a hash into d + 1 bands. Two hashes that differ in at most d bits agree in at
least one band, so only hashes that agree in a band are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import imagehash
import numpy as np
from PIL import Image

from covpool.validation.errors import ValidationError

#: A hash has HASH_SIDE x HASH_SIDE bits.
HASH_SIDE = 16

#: Side in pixels of the picture from which phash computes the frequencies.
HASH_INPUT = 4 * HASH_SIDE

#: Standard deviation in grey levels. Flatter pictures get no hash: their frequencies do not distinguish them.
LEAST_DEVIATION = 2.0

#: More pairs would fill the memory, and a longer list would help no reader.
MOST_PAIRS = 10_000_000

EXACT, NEAR, MIRRORED = "exact", "near", "mirrored"


def perceptual_hashes(grey: np.ndarray) -> np.ndarray | None:
    """Hash a picture and its mirror image.

    Args:
        grey: uint8 [h, w].

    Returns:
        uint8 [2, 32]: the bits of both hashes; None for a picture without contrast.
    """
    grey = cv2.resize(grey, (HASH_INPUT, HASH_INPUT), interpolation=cv2.INTER_AREA)
    if grey.std() < LEAST_DEVIATION:
        return None
    images = Image.fromarray(grey), Image.fromarray(np.ascontiguousarray(grey[:, ::-1]))
    return np.stack([np.packbits(imagehash.phash(image, HASH_SIDE).hash) for image in images])


@dataclass(frozen=True)
class Duplicate:
    """Two pictures that show the same.

    Attributes:
        index: Row of the duplicate in the manifest.
        other: Row of the picture that it duplicates.
        kind: EXACT, NEAR or MIRRORED.
        distance: Number of bits in which their hashes differ.
    """

    index: int
    other: int
    kind: str
    distance: int


def find_duplicates(rows: Sequence[dict], hashes: Sequence[np.ndarray | None], most: int) -> list[Duplicate]:
    """Find for each usable picture the duplicate that matters most.

    A duplicate in another split comes first. Else it is an earlier picture of the same split that has no earlier
    duplicate there itself, so the first of several equal pictures in a split has none in that split. An exact duplicate
    comes before a near one, a nearer one before others.

    Args:
        rows: The rows of the manifest with `status`, `sha256` and `split`.
        hashes: The result of `perceptual_hashes` for each row.
        most: Largest number of bits in which near duplicates may differ.

    Returns:
        The duplicates, at most one per picture, in the order of the manifest.

    Raises:
        ValidationError: There are more than MOST_PAIRS near pairs.
    """
    usable = [index for index, row in enumerate(rows) if row["status"] == "ok"]
    exact: dict[str, dict[str, int]] = {}
    for index in usable:
        exact.setdefault(rows[index]["sha256"], {}).setdefault(rows[index]["split"], index)
    near = _nearest([index for index in usable if hashes[index] is not None], rows, hashes, most)
    found = []
    for index in usable:
        split = rows[index]["split"]
        firsts = exact[rows[index]["sha256"]].values()
        copies = [Duplicate(index, other, EXACT, 0) for other in firsts if other != index]
        # False sorts before True: another split first, then an exact copy first.
        best = min(
            [*copies, *near.get(index, ())],
            default=None,
            key=lambda duplicate: (
                rows[duplicate.other]["split"] == split,
                duplicate.kind != EXACT,
                duplicate.distance,
                duplicate.other,
            ),
        )
        if best is not None:
            found.append(best)
    return found


def _nearest(
    indices: list[int], rows: Sequence[dict], hashes: Sequence[np.ndarray | None], most: int
) -> dict[int, list[Duplicate]]:
    """Return for each picture the nearest one of another split and the nearest earlier one of the same split, if any.

    Pictures of one split with equal hashes form a group, so that they are compared with others only once.
    """
    groups: dict[tuple, _Group] = {}
    for index in indices:
        split = rows[index]["split"]
        groups.setdefault((split, hashes[index][0].tobytes()), _Group(split, [])).members.append(index)
    groups = list(groups.values())
    links = _links(groups, hashes, most)
    originals: set[int] = set()
    found: dict[int, list[Duplicate]] = {}
    for number, group in enumerate(groups):
        across = min((link for link in links[number] if groups[link.group].split != group.split), default=None)
        inside = min(
            (link for link in links[number] if link.group in originals and groups[link.group].split == group.split),
            default=None,
        )
        if inside is None:
            originals.add(number)
        for index in group.members:
            own = inside
            if own is None and index != group.members[0]:
                own = _Link(0, False, number)
            found[index] = [
                Duplicate(index, groups[link.group].members[0], MIRRORED if link.mirrored else NEAR, link.distance)
                for link in (across, own)
                if link is not None
            ]
    return found


@dataclass(frozen=True)
class _Group:
    """Pictures of one split with equal hashes, in the order of the manifest."""

    split: str
    members: list[int]


@dataclass(frozen=True, order=True)
class _Link:
    """The distance to another group. Links sort by distance."""

    distance: int
    mirrored: bool
    group: int


def _links(groups: list[_Group], hashes: Sequence[np.ndarray | None], most: int) -> list[list[_Link]]:
    """Return for each group its links to other groups."""
    links: list[list[_Link]] = [[] for _ in groups]
    if not groups:
        return links
    count = len(groups)
    both = np.stack([hashes[group.members[0]] for group in groups])
    for first, second, distance in near_pairs(np.concatenate([both[:, 0], both[:, 1]]), most):
        # The mirror images start at `count`. A pair of mirror images only repeats the pair of their originals, and a
        # picture may be near its own mirror image.
        if first < count and second % count != first:
            links[first].append(_Link(distance, second >= count, second % count))
            links[second % count].append(_Link(distance, second >= count, first))
    return links


def near_pairs(hashes: np.ndarray, most: int) -> Iterator[tuple[int, int, int]]:
    """Find all pairs of near hashes.

    Args:
        hashes: uint8 [n, 32].
        most: Largest number of bits in which the hashes of a pair may differ.

    Yields:
        (first, second, distance): two indices into `hashes`, and the number of bits in which the hashes differ.

    Raises:
        ValidationError: There are more than MOST_PAIRS such pairs.
    """
    bits = np.unpackbits(hashes, axis=1)
    words = np.ascontiguousarray(hashes).view(np.uint64)
    # A band has at most 64 bits, so that it fits into one number.
    bands = max(most + 1, words.shape[1])
    pairs = np.empty(0, np.int64)
    for band in range(bands):
        pairs = np.unique(np.concatenate([pairs, *_agreeing(words, bits[:, band::bands], most)]))
        _check_number(len(pairs), most)
    for pair in pairs:
        first, second = divmod(int(pair), len(hashes))
        yield first, second, int(_distance(words[first], words[second]))


def _agreeing(words: np.ndarray, bits: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Yield the near pairs that agree in all `bits` of a band, each as first * n + second."""
    values = _as_numbers(bits)
    order = np.argsort(values, kind="stable")
    values = values[order]
    found = 0
    # After sorting, hashes that agree are neighbours. Compare each with the next one, then with the one after it, ...
    for step in range(1, len(values)):
        agree = np.flatnonzero(values[step:] == values[:-step])
        if not len(agree):
            return
        one, two = order[agree], order[agree + step]
        near = _distance(words[one], words[two]) <= most
        found += np.count_nonzero(near)
        _check_number(found, most)
        yield np.minimum(one, two)[near] * len(values) + np.maximum(one, two)[near]


def _distance(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the number of differing bits along the last axis."""
    return np.bitwise_count(one ^ two).sum(axis=-1, dtype=np.int64)


def _as_numbers(bits: np.ndarray) -> np.ndarray:
    """Pack bits [n, at most 64] into uint64 [n]."""
    packed = np.zeros((len(bits), 8), np.uint8)
    octets = np.packbits(bits, axis=1)
    packed[:, : octets.shape[1]] = octets
    return packed.view(np.uint64)[:, 0]


def _check_number(pairs: int, most: int) -> None:
    """Raise ValidationError if there are too many pairs."""
    if pairs > MOST_PAIRS:
        raise ValidationError(
            f"more than {MOST_PAIRS} pairs of pictures differ in at most {most} bits of their hash: the pictures are "
            "nearly all alike, or validate.near_distance is too large"
        )


def mark(rows: Sequence[dict], duplicates: Sequence[Duplicate], policy: str) -> None:
    """Write the duplicates into the rows of the manifest.

    The policy `drop_from_train` also leaves out every picture of train that `duplicates` lists. So of equal pictures
    train keeps one, or none if another split has the same picture. Other splits keep all their pictures, so that scores
    stay comparable.

    Args:
        rows: The rows of the manifest; they are changed.
        duplicates: The result of `find_duplicates` for these rows.
        policy: The value of `validate.duplicates` in params.yaml.
    """
    for duplicate in duplicates:
        row, other = rows[duplicate.index], rows[duplicate.other]
        row.update(duplicate_of=other["path"], duplicate_kind=duplicate.kind, distance=duplicate.distance)
        if policy == "drop_from_train" and row["split"] == "train":
            row.update(status="left out", reason=f"duplicate of a picture of {other['split']}")


def refuse_shared(rows: Sequence[dict], duplicates: Sequence[Duplicate]) -> None:
    """Apply the policy `fail`.

    Args:
        rows: The rows of the manifest, with the splits of the pictures.
        duplicates: The result of `find_duplicates` for these rows.

    Raises:
        ValidationError: Two splits share a picture.
    """
    shared = [
        (rows[duplicate.index], rows[duplicate.other], duplicate)
        for duplicate in duplicates
        if rows[duplicate.index]["split"] != rows[duplicate.other]["split"]
    ]
    if shared:
        examples = "\n".join(
            f"  {row['path']} = {other['path']} ({duplicate.kind}, distance {duplicate.distance})"
            for row, other, duplicate in shared[:10]
        )
        raise ValidationError(
            f"{len(shared)} pictures show the same as a picture of another split, and validate.duplicates is fail "
            f"(the column duplicate_of in the manifest lists all):\n{examples}"
            + ("\n  ..." if len(shared) > 10 else "")
        )
