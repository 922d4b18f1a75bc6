"""Measures of predictions against counting by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covpool.training import metrics


@st.composite
def scored(draw):
    classes, count = draw(st.integers(2, 6)), draw(st.integers(1, 25))
    logits = draw(
        st.lists(
            st.lists(st.floats(-50, 50, width=32), min_size=classes, max_size=classes), min_size=count, max_size=count
        )
    )
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    return np.array(logits, np.float32), labels, [f"c{number}" for number in range(classes)]


@settings(deadline=None)
@given(case=scored())
def test_scores_are_those_counted_by_hand(case):
    logits, labels, classes = case
    found = metrics.scores(logits, labels, classes)
    predictions = [max(range(len(classes)), key=lambda c: row[c]) for row in logits.tolist()]
    pairs = list(zip(labels, predictions))
    assert found["images"] == len(pairs)
    assert found["accuracy"] == pytest.approx(sum(a == p for a, p in pairs) / len(pairs))
    for a in range(len(classes)):
        assert found["confusion"][a] == [pairs.count((a, p)) for p in range(len(classes))]
    recalls, f1s = [], []
    for c, row in enumerate(found["per_class"]):
        hits = pairs.count((c, c))
        actual, predicted = sum(a == c for a, _ in pairs), sum(p == c for _, p in pairs)
        assert row["class"] == classes[c] and row["images"] == actual
        assert row["recall"] == (pytest.approx(hits / actual) if actual else None)
        assert row["precision"] == (pytest.approx(hits / predicted) if predicted else None)
        if actual:
            precision = hits / predicted if predicted else 0
            recall = hits / actual
            f1 = 2 * precision * recall / (precision + recall) if hits else 0
            assert row["f1"] == pytest.approx(f1)
            recalls.append(recall)
            f1s.append(f1)
        else:
            assert row["f1"] is None
    assert found["mean_class_accuracy"] == pytest.approx(sum(recalls) / len(recalls))
    assert found["macro_f1"] == pytest.approx(sum(f1s) / len(f1s))
    by_hand = [math.log(sum(math.exp(x - row[a]) for x in row)) for row, a in zip(logits.tolist(), labels)]
    assert found["cross_entropy"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-9, abs=1e-9)
    assert json.loads(json.dumps(found)) == found


def test_log_softmax_of_large_logits_is_finite():
    found = metrics.log_softmax(np.float32([[3e38, 0.0], [-3e38, -3e38]]))
    np.testing.assert_allclose(found, [[0, -3e38], [np.log(0.5), np.log(0.5)]], rtol=1e-6)
