"""Divides pictures into train, val and test, for data sets without these splits."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import partial


def stratified_split(pictures: Iterable[tuple[str, str, str]], val: float, test: float, seed: int) -> dict[str, str]:
    """Choose a split for each picture, so that each split has the same share of every class and no subject is in two.

    Subjects are assigned one by one: those with the most pictures first, then in an order drawn from `seed` and the
    name of the subject, so that neither the order of the pictures nor the machine matters. Each subject goes to the
    split where it most reduces the squared distance between actual and intended counts of its classes. Without
    subjects, a split gets n * share of the n pictures of a class, rounded up or down.

    Args:
        pictures: (path, class, subject) of each picture. A picture with the subject '' is assigned by itself.
        val: Share of the pictures for val, from 0 to 1.
        test: Share of the pictures for test, from 0 to 1.
        seed: Another seed gives another order of the subjects.

    Returns:
        {path: split}.
    """
    groups: dict[tuple[bool, str], list[tuple[str, str]]] = defaultdict(list)
    for path, name, subject in pictures:
        groups[bool(subject), subject or path].append((path, name))
    # In the order of artifacts.SPLITS, which decides between splits that need a subject equally.
    shares = {"train": 1 - val - test, "val": val, "test": test}
    totals = Counter(name for members in groups.values() for _, name in members)
    intended = {
        split: {name: share * total for name, total in totals.items()} for split, share in shares.items() if share
    }
    have = {split: Counter() for split in intended}

    def drawn(key: tuple[bool, str]) -> bytes:
        return hashlib.sha256(f"{seed} {key}".encode()).digest()

    def distance_added(counts: Counter, split: str) -> float:
        return sum(
            number * (2 * (have[split][name] - intended[split][name]) + number) / intended[split][name]
            for name, number in counts.items()
        )

    chosen = {}
    for key in sorted(groups, key=lambda key: (-len(groups[key]), drawn(key))):
        counts = Counter(name for _, name in groups[key])
        split = min(intended, key=partial(distance_added, counts))
        have[split] += counts
        chosen.update((path, split) for path, _ in groups[key])
    return chosen
