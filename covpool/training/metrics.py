"""Classification metrics from logits, in float64.

`mean_class_accuracy` is the mean of the classes' recalls, which RAF-DB's authors report (S. Li, W. Deng, J. Du:
Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the Wild, CVPR 2017). A
class without pictures has no recall; it is left out of this mean and of the macro F1.
"""

from typing import Any, Dict, Sequence

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Compute the logarithm of the softmax over the last axis, in float64; the shape stays."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def confusion_matrix(labels: Sequence[int], predictions: Sequence[int], num_classes: int) -> np.ndarray:
    """Count pairs of classes: int64 [num_classes, num_classes], rows are true and columns are predicted classes."""
    table = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(table, (np.asarray(labels), np.asarray(predictions)), 1)
    return table


def scores(logits: np.ndarray, labels: Sequence[int], class_names: Sequence[str]) -> Dict[str, Any]:
    """Compute all metrics of a set of pictures.

    Args:
        logits: floats [n, c].
        labels: integers [n].
        class_names: the names of the c classes.

    Returns:
        A JSON value: `images`, `accuracy`, `mean_class_accuracy`, `macro_f1`, `cross_entropy` (mean, in nats),
        `per_class` (a row per class: images, precision, recall, f1; None if it is not defined), `confusion` (rows are
        true classes) and `classes` (the names).
    """
    logits = np.asarray(logits)
    predictions = logits.argmax(axis=1)
    table = confusion_matrix(labels, predictions, len(class_names))
    actual, predicted, hits = table.sum(axis=1), table.sum(axis=0), np.diag(table)
    rows = []
    for index, name in enumerate(class_names):
        recall = hits[index] / actual[index] if actual[index] else None
        precision = hits[index] / predicted[index] if predicted[index] else None
        # 2 hits / (actual + predicted) is the harmonic mean of both, and 0 if the class was never predicted.
        f1 = 2 * hits[index] / (actual[index] + predicted[index]) if actual[index] else None
        rows.append(
            {
                "class": name,
                "images": int(actual[index]),
                "precision": _plain(precision),
                "recall": _plain(recall),
                "f1": _plain(f1),
            }
        )
    present = [row for row in rows if row["images"]]
    return {
        "images": len(logits),
        "accuracy": float(hits.sum() / len(logits)),
        "mean_class_accuracy": float(np.mean([row["recall"] for row in present])),
        "macro_f1": float(np.mean([row["f1"] for row in present])),
        "cross_entropy": float(-log_softmax(logits)[np.arange(len(logits)), np.asarray(labels)].mean()),
        "per_class": rows,
        "confusion": table.tolist(),
        "classes": list(class_names),
    }


def _plain(value):
    """A Python float, or None."""
    return None if value is None else float(value)
