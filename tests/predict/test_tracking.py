"""Tracks through a video and the average over time, against its closed form."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from covpool.predict.tracking import PATIENCE, TIME_CONSTANT, Tracker, overlap, softmax


def face(x, logits=(0.0, 0.0)):
    return SimpleNamespace(box=(x, 0.0, 10.0, 10.0), logits=np.array(logits))


def test_overlap_is_intersection_over_union():
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0


def test_two_faces_that_move_keep_their_numbers_whatever_their_order():
    tracker = Tracker()
    assert [number for number, _ in tracker.update([face(0), face(50)], 0.0)] == [1, 2]
    assert [number for number, _ in tracker.update([face(52), face(2)], 0.1)] == [2, 1]


def test_a_face_comes_back_within_a_second_and_not_after():
    tracker = Tracker()
    tracker.update([face(0)], 0.0)
    tracker.update([], 0.5)
    assert tracker.update([face(1)], 0.9)[0][0] == 1
    assert tracker.update([face(1)], 0.9 + PATIENCE + 0.1)[0][0] == 2


def test_logits_approach_a_new_value_exponentially_whatever_the_frame_rate():
    for count in (3, 30):
        tracker = Tracker()
        tracker.update([face(0, (0.0, 0.0))], 0.0)
        for place in range(1, count + 1):
            ((_, logits),) = tracker.update([face(0, (1.0, -2.0))], 0.6 * place / count)
        share = 1 - math.exp(-0.6 / TIME_CONSTANT)
        assert logits == pytest.approx([share, -2 * share])


def test_softmax_of_large_logits_is_finite():
    assert softmax(np.array([1000.0, 0.0])) == pytest.approx([1, 0])
