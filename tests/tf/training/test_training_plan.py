"""The plan of a run: every picture once a pass, and numbers that depend on the seed and the step alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covpool.training.plan import Plan, crop_margin, run_plan, training_side

plans = st.builds(
    dict,
    count=st.integers(1, 60),
    batch_size=st.integers(1, 50),
    margin=st.integers(0, 9),
    degrees=st.floats(0, 180),
    flip=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)


@pytest.mark.parametrize("random", [True, False])
def test_a_runs_plan_follows_its_parameters(params_with, random):
    names = ("random_crop", "random_rotate", "random_flip")
    params = params_with({**{f"train.{name}": random for name in names}, "train.rotation_degrees": 20, "train.seed": 9})
    batch_size, margin = params.train.batch_size, params.normalise.margin if random else 0
    expected = Plan(40, batch_size, margin, 20 if random else 0, random, seed=9)
    second = Plan(40, batch_size, margin, 20 if random else 0, random, seed=9, workers=2, rank=1)
    for number in range(3):
        for found, wanted in ((run_plan(params, 40), expected), (run_plan(params, 40, 2, 1), second)):
            np.testing.assert_array_equal(found.step(number).indices, wanted.step(number).indices)
            np.testing.assert_array_equal(found.step(number).augmentation, wanted.step(number).augmentation)
    assert crop_margin(params) == margin and training_side(params) == params.normalise.size + 2 * margin


def test_a_plan_without_pictures_is_refused():
    with pytest.raises(ValueError, match="expected at least one picture, got 0"):
        Plan(count=0, batch_size=1, margin=0, degrees=0, flip=False, seed=0)


@settings(deadline=None)
@given(options=plans)
def test_every_picture_is_seen_once_a_pass(options):
    plan = Plan(**options)
    steps = -(-3 * options["count"] // options["batch_size"])
    row = np.concatenate([plan.step(number).indices for number in range(steps)])
    for turn in range(3):
        part = row[turn * options["count"] : (turn + 1) * options["count"]]
        assert sorted(part) == list(range(options["count"]))


@settings(deadline=None)
@given(options=plans, workers=st.integers(2, 9), number=st.integers(0, 10**6))
def test_workers_share_a_step_without_overlap(options, workers, number):
    """Their parts in a row are the step of one worker with their global batch, augmentation and all."""
    whole = Plan(**dict(options, batch_size=workers * options["batch_size"])).step(number)
    parts = [Plan(**options, workers=workers, rank=rank).step(number) for rank in range(workers)]
    np.testing.assert_array_equal(np.concatenate([part.indices for part in parts]), whole.indices)
    np.testing.assert_array_equal(np.concatenate([part.augmentation for part in parts]), whole.augmentation)


@settings(deadline=None)
@given(options=plans, numbers=st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_a_step_is_the_same_whatever_was_asked_before(options, numbers):
    once = Plan(**options)
    for number in numbers:
        seen, alone = once.step(number), Plan(**options).step(number)
        np.testing.assert_array_equal(seen.indices, alone.indices)
        np.testing.assert_array_equal(seen.augmentation, alone.augmentation)
        assert seen.indices.shape == (options["batch_size"],) and seen.augmentation.dtype == np.float32


@settings(deadline=None)
@given(options=plans, number=st.integers(0, 1000))
def test_augmentation_stays_in_its_bounds(options, number):
    angle, down, right, mirrored = Plan(**options).step(number).augmentation.T
    assert np.abs(angle).max() <= np.deg2rad(options["degrees"]) * 1.000001
    for shift in (down, right):
        assert np.abs(shift).max() <= options["margin"]
        np.testing.assert_array_equal(shift, np.round(shift))
    assert set(mirrored) <= ({0.0, 1.0} if options["flip"] else {0.0})


def test_augmentation_is_uniform():
    plan = Plan(count=20000, batch_size=20000, margin=6, degrees=10, flip=True, seed=666)
    angle, down, right, mirrored = np.rad2deg(plan.step(0).augmentation[:, :1]), *plan.step(0).augmentation.T[1:]
    counts = np.histogram(angle, bins=10, range=(-10, 10))[0]
    # Six deviations of a binomial count of 20,000 draws.
    assert abs(counts - 2000).max() < 6 * np.sqrt(20000 * 0.1 * 0.9)
    for shift in (down, right):
        values, counts = np.unique(shift, return_counts=True)
        assert list(values) == list(range(-6, 7))
        assert abs(counts - 20000 / 13).max() < 6 * np.sqrt(20000 / 13)
    assert abs(mirrored.mean() - 0.5) < 6 * np.sqrt(0.25 / 20000)
    correlations = np.corrcoef([angle[:, 0], down, right, mirrored])
    assert abs(correlations - np.eye(4)).max() < 6 / np.sqrt(20000)


def test_seed_pass_and_picture_change_the_numbers():
    def plan(seed):
        return Plan(count=50, batch_size=50, margin=6, degrees=10, flip=True, seed=seed)

    one, other = plan(1), plan(2)
    assert not np.array_equal(one.step(0).indices, other.step(0).indices)
    assert not np.array_equal(one.step(0).indices, one.step(1).indices)
    by_picture = [each.augmentation[np.argsort(each.indices)] for each in (one.step(0), one.step(1), other.step(0))]
    for first in range(3):
        assert len(np.unique(by_picture[first][:, 0])) == 50
        for second in range(first):
            assert not np.array_equal(by_picture[first], by_picture[second])


def test_the_numbers_are_those_of_two_frozen_streams_of_a_pass():
    """A resumed run, and a later version of this project, must draw the same numbers."""
    step = Plan(count=9, batch_size=9, margin=2, degrees=90, flip=True, seed=5).step(3)
    order = np.random.RandomState([5, 3, 0]).permutation(9)
    draws = np.random.RandomState([5, 3, 1]).random_sample((9, 4))[order]
    np.testing.assert_array_equal(step.indices, order)
    np.testing.assert_allclose(step.augmentation[:, 0], np.pi / 2 * (2 * draws[:, 0] - 1), rtol=1e-6)
    np.testing.assert_array_equal(step.augmentation[:, 1:3], np.floor(5 * draws[:, 1:3]) - 2)
    np.testing.assert_array_equal(step.augmentation[:, 3], draws[:, 3] < 0.5)


def test_classes_are_mixed_although_the_files_are_sorted():
    labels = np.repeat(np.arange(7), 100)
    plan = Plan(count=700, batch_size=32, margin=0, degrees=0, flip=False, seed=666)
    for number in range(20):
        assert len(set(labels[plan.step(number).indices])) >= 5
