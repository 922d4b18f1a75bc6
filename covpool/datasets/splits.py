"""Divides pictures over train, val and test where a data set leaves that to its user."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import partial


def stratified_split(pictures: Iterable[tuple[str, str, str]], val: float, test: float, seed: int) -> dict[str, str]:
    """Choose a split for each picture, with the same share of every class in each, and no subject in two.

    pictures: (path, class, subject); one without a subject ('') stands for itself. val, test: their shares.

    Subjects are taken one by one, those with the most pictures first and else in an order drawn from `seed` and the
    subject's name, so neither the order of the pictures nor the machine matters. Each goes where its classes lack
    most, measured by the squared distance of the counts from those wanted. Without subjects each class of n pictures
    gets n * share of them, to the nearest whole number or the one beside it.

    Returns path -> split.
    """
    groups: dict[tuple[bool, str], list[tuple[str, str]]] = defaultdict(list)
    for path, name, subject in pictures:
        groups[bool(subject), subject or path].append((path, name))
    # In the order of artifacts.SPLITS, which decides between splits that lack equally.
    shares = {"train": 1 - val - test, "val": val, "test": test}
    totals = Counter(name for members in groups.values() for _, name in members)
    wanted = {
        split: {name: share * total for name, total in totals.items()} for split, share in shares.items() if share
    }
    have = {split: Counter() for split in wanted}

    def drawn(key):
        return hashlib.sha256(f"{seed} {key}".encode()).digest()

    def distance_added(counts, split):
        return sum(
            number * (2 * (have[split][name] - wanted[split][name]) + number) / wanted[split][name]
            for name, number in counts.items()
        )

    chosen = {}
    for key in sorted(groups, key=lambda key: (-len(groups[key]), drawn(key))):
        counts = Counter(name for _, name in groups[key])
        split = min(wanted, key=partial(distance_added, counts))
        have[split] += counts
        chosen.update((path, split) for path, _ in groups[key])
    return chosen
