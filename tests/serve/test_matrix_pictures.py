"""The pictures of the covariance matrix show what is planted in it."""

import numpy as np
import pytest

from covpool.serve import matrix_pictures


@pytest.fixture
def groups():
    """A covariance matrix of 30 features in two groups that move against each other, shuffled; and the groups."""
    rng = np.random.default_rng(0)
    sign = rng.permutation(np.repeat([1.0, -1.0], 15))
    samples = rng.normal(size=[500, 1]) * sign + 0.3 * rng.normal(size=[500, 30])
    return np.cov(samples * rng.uniform(0.5, 2, 30), rowvar=False), sign


def test_features_that_move_together_stand_side_by_side(groups):
    covariance, sign = groups
    indices = matrix_pictures.order(covariance)
    assert sorted(indices) == list(range(30))
    # Around the circle of angles each group is one piece.
    ordered = sign[indices]
    assert np.count_nonzero(ordered != np.roll(ordered, 1)) == 2


def test_signs_have_their_colours():
    matrix = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    picture = matrix_pictures.coloured(matrix, np.arange(3))
    red, green, blue = np.moveaxis(picture.astype(int), 2, 0)
    assert np.all((blue > red) == (matrix > 0)) and np.all((red > blue) == (matrix < 0))
    assert np.all(picture[matrix == 0] == 250)
    assert np.all(matrix_pictures.coloured(np.zeros([4, 4]), np.arange(4)) == 250)


def test_before_and_after_share_their_order_and_the_scale_does_not_colour_the_logarithm(groups):
    covariance, _ = groups
    values, vectors = np.linalg.eigh(covariance)
    pictures = []
    for scale in (1.0, 1e-3):
        logarithm = vectors @ np.diag(np.log(scale * values)) @ vectors.T
        pictures.append(matrix_pictures.before_and_after(scale * covariance, logarithm))
    for one, other in zip(*pictures):
        assert one.shape == (30, 30, 3) and one.dtype == np.uint8
        assert np.array_equal(one, one.transpose(1, 0, 2))
        assert np.abs(one.astype(int) - other).max() <= 1
