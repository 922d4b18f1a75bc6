"""Finds pictures that show the same, exactly or nearly: inside a split they weigh double, across splits they leak.

Nearly the same is told by a perceptual hash of 256 bits: the signs, about their median, of the 16x16 lowest frequencies
of the picture's discrete cosine transform (ImageHash's `phash`). Copies in another format, quality or size differ in
at most 8 bits of 256; two expressions of one person before the same background differ in 48 or more, in whole pictures
and in aligned faces (measured on the 532 drawn pictures). The mirror image of a picture is found as well, since
training mirrors at random.

Hashes within a distance d are found without comparing all with all, by multi-index hashing (Norouzi, Punjani, Fleet,
"Fast Search in Hamming Space with Multi-Index Hashing", CVPR 2012): if two hashes differ in at most d of their bits and
the bits are dealt out to d + 1 bands, they agree in one of the bands, so only those that agree in a band are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import imagehash
import numpy as np
from PIL import Image

from covpool.validation.errors import ValidationError

#: The hash has the square of this many bits.
HASH_SIDE = 16

#: phash looks at frequencies of a picture of this side.
HASH_INPUT = 4 * HASH_SIDE

#: Grey levels. Flatter pictures have no frequencies to tell them apart: they get no hash.
LEAST_DEVIATION = 2.0

#: More pairs than this are no list that anyone reads, and would fill the memory.
MOST_PAIRS = 10_000_000

EXACT, NEAR, MIRRORED = "exact", "near", "mirrored"


def perceptual_hashes(grey: np.ndarray) -> np.ndarray | None:
    """Return the hashes of a picture and of its mirror image, uint8 [2, 32]; None for a picture without contrast.

    `grey` is uint8 [h, w].
    """
    grey = cv2.resize(grey, (HASH_INPUT, HASH_INPUT), interpolation=cv2.INTER_AREA)
    if grey.std() < LEAST_DEVIATION:
        return None
    images = Image.fromarray(grey), Image.fromarray(np.ascontiguousarray(grey[:, ::-1]))
    return np.stack([np.packbits(imagehash.phash(image, HASH_SIDE).hash) for image in images])


@dataclass(frozen=True)
class Duplicate:
    """The picture at `index` of the manifest shows the same as the one at `other`; `distance` in bits of the hash."""

    index: int
    other: int
    kind: str
    distance: int


def find_duplicates(rows: Sequence[dict], hashes: Sequence[np.ndarray | None], most: int) -> list[Duplicate]:
    """Return for each usable picture that has duplicates the one that matters most, in the manifest's order.

    rows: the manifest's, with `status`, `sha256` and `split`; hashes: of `perceptual_hashes`, or None; most: bits that
    may differ.

    A picture's duplicate is one of another split if there is any, else an earlier one of its own split, which itself
    has no earlier one there; rather an exact one than the nearest. So of pictures that show the same the first of each
    split stands alone. Raises ValidationError if there are more than MOST_PAIRS near pairs.
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
        # Of another split first, an exact copy first: False comes before True.
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
    """Return for each picture its nearest one of another split and its nearest earlier one of its own, if any.

    Pictures of one split with one hash are a group, compared with others once.
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
    """Pictures of one split with one hash, in the manifest's order."""

    split: str
    members: list[int]


@dataclass(frozen=True, order=True)
class _Link:
    """How near another group is; the nearest comes first."""

    distance: int
    mirrored: bool
    group: int


def _links(groups: list[_Group], hashes: Sequence[np.ndarray | None], most: int) -> list[list[_Link]]:
    """Return for each group its links to others."""
    links: list[list[_Link]] = [[] for _ in groups]
    if not groups:
        return links
    count = len(groups)
    both = np.stack([hashes[group.members[0]] for group in groups])
    for first, second, distance in near_pairs(np.concatenate([both[:, 0], both[:, 1]]), most):
        # From `count` on stand the mirror images. Two of them make the pair of their originals again, and a picture
        # may be like its own mirror image.
        if first < count and second % count != first:
            links[first].append(_Link(distance, second >= count, second % count))
            links[second % count].append(_Link(distance, second >= count, first))
    return links


def near_pairs(hashes: np.ndarray, most: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first, second, distance) for all pairs of hashes, uint8 [n, 32], that differ in at most `most` bits."""
    bits = np.unpackbits(hashes, axis=1)
    words = np.ascontiguousarray(hashes).view(np.uint64)
    # At most 64 bits a band, to be one number.
    bands = max(most + 1, words.shape[1])
    pairs = np.empty(0, np.int64)
    for band in range(bands):
        pairs = np.unique(np.concatenate([pairs, *_agreeing(words, bits[:, band::bands], most)]))
        _refuse_more_than_is_of_use(len(pairs), most)
    for pair in pairs:
        first, second = divmod(int(pair), len(hashes))
        yield first, second, int(_distance(words[first], words[second]))


def _agreeing(words: np.ndarray, bits: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Yield the near pairs, as first * n + second, of which the `bits` of a band agree."""
    values = _as_numbers(bits)
    order = np.argsort(values, kind="stable")
    values = values[order]
    found = 0
    # Those that agree stand side by side: each is compared with the next one, then with the one after it, ...
    for step in range(1, len(values)):
        agree = np.flatnonzero(values[step:] == values[:-step])
        if not len(agree):
            return
        one, two = order[agree], order[agree + step]
        near = _distance(words[one], words[two]) <= most
        found += np.count_nonzero(near)
        _refuse_more_than_is_of_use(found, most)
        yield np.minimum(one, two)[near] * len(values) + np.maximum(one, two)[near]


def _distance(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.bitwise_count(one ^ two).sum(axis=-1, dtype=np.int64)


def _as_numbers(bits: np.ndarray) -> np.ndarray:
    packed = np.zeros((len(bits), 8), np.uint8)
    octets = np.packbits(bits, axis=1)
    packed[:, : octets.shape[1]] = octets
    return packed.view(np.uint64)[:, 0]


def _refuse_more_than_is_of_use(pairs: int, most: int) -> None:
    if pairs > MOST_PAIRS:
        raise ValidationError(
            f"more than {MOST_PAIRS} pairs of pictures differ in at most {most} bits of their hash: the pictures are "
            "nearly all alike, or validate.near_distance is too large"
        )


def mark(rows: Sequence[dict], duplicates: Sequence[Duplicate], policy: str) -> None:
    """Write the duplicates into the manifest's rows; with the policy `drop_from_train` training does without them.

    Of training then go the pictures that another split has, and all but one of those that show the same; a picture goes
    with its duplicate of train also where that one goes for another split's sake. Other splits stay as they are, to
    remain comparable.
    """
    for duplicate in duplicates:
        row, other = rows[duplicate.index], rows[duplicate.other]
        row.update(duplicate_of=other["path"], duplicate_kind=duplicate.kind, distance=duplicate.distance)
        if policy == "drop_from_train" and row["split"] == "train":
            row.update(status="left out", reason=f"duplicate of a picture of {other['split']}")


def refuse_shared(rows: Sequence[dict], duplicates: Sequence[Duplicate]) -> None:
    """Raise ValidationError if a picture stands in two splits: what the policy `fail` asks for."""
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
            f"{len(shared)} pictures show what one of another split shows, and validate.duplicates is fail "
            f"(duplicate_of in the manifest names all):\n{examples}" + ("\n  ..." if len(shared) > 10 else "")
        )
