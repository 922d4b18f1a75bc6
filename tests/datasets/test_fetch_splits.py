"""The split of a data set without splits: the asked shares of each class, no subject in two splits, by seed alone."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from covpool.datasets.splits import stratified_split

SHARES = st.tuples(st.floats(0.01, 0.45), st.one_of(st.just(0.0), st.floats(0.01, 0.45)))


def pictures(counts):
    return [(f"{name}/{index}", name, "") for name, count in counts.items() for index in range(count)]


@given(st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 60), min_size=1), SHARES, st.integers(0, 2**31 - 1))
def test_each_class_has_its_share_to_within_one_picture(counts, shares, seed):
    val, test = shares
    chosen = stratified_split(pictures(counts), val, test, seed)
    assert len(chosen) == sum(counts.values())
    found = Counter((path.split("/")[0], split) for path, split in chosen.items())
    for name, count in counts.items():
        for split, share in (("train", 1 - val - test), ("val", val), ("test", test)):
            assert abs(found[name, split] - share * count) <= 1, (name, split)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), max_size=80), SHARES, st.randoms())
def test_no_subject_is_in_two_splits_and_the_order_does_not_matter(takes, shares, random):
    rows = [(f"{name}/{index}", name, f"S{who}") for index, (name, who) in enumerate(takes)]
    chosen = stratified_split(rows, *shares, seed=1)
    subjects = {path: subject for path, _, subject in rows}
    assert len({(subjects[path], split) for path, split in chosen.items()}) == len(set(subjects.values()))
    shuffled = random.sample(rows, len(rows))
    assert stratified_split(shuffled, *shares, seed=1) == chosen


def test_subjects_of_equal_size_fill_the_shares():
    rows = [(f"{name}{who}", name, str(who)) for who in range(100) for name in "abc"]
    chosen = stratified_split(rows, 0.2, 0.1, 3)
    assert Counter((path[0], split) for path, split in chosen.items()) == Counter(
        {(name, split): count for name in "abc" for split, count in (("train", 70), ("val", 20), ("test", 10))}
    )


def test_another_seed_chooses_others_as_evenly():
    """Over many seeds each picture is in val as often as any other."""
    rows = pictures({"a": 20})
    times = Counter(
        path for seed in range(500) for path, split in stratified_split(rows, 0.25, 0, seed).items() if split == "val"
    )
    assert sum(times.values()) == 2500
    # 125 of 500 expected, standard deviation 9.7: five of them either way.
    assert all(76 <= times[path] <= 174 for path, _, _ in rows)
