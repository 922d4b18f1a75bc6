"""How well predictions fit labels: the field's measures, from logits, in float64.

`mean_class_accuracy` is the mean of the classes' recalls, which RAF-DB's authors report (S. Li, W. Deng, J. Du:
Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the Wild, CVPR 2017). A
class without pictures has no recall and no part in that mean; in the macro F1 it has none either.
"""

import numpy as np


def log_softmax(logits):
    """Of the last axis, in float64."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def confusion_matrix(labels, predictions, classes):
    """Counts [true, predicted] for `classes` classes."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (np.asarray(labels), np.asarray(predictions)), 1)
    return table


def scores(logits, labels, classes):
    """All measures of logits [n, c] for labels [n]; classes: the names.

    Returns a JSON value: `images`, `accuracy`, `mean_class_accuracy`, `macro_f1`, `cross_entropy`, `per_class` (a row a
    class: images, precision, recall, f1; null where it is not defined), `confusion` (rows true), `classes`.
    """
    logits = np.asarray(logits)
    predictions = logits.argmax(axis=1)
    table = confusion_matrix(labels, predictions, len(classes))
    actual, predicted, hits = table.sum(axis=1), table.sum(axis=0), np.diag(table)
    rows = []
    for index, name in enumerate(classes):
        recall = hits[index] / actual[index] if actual[index] else None
        precision = hits[index] / predicted[index] if predicted[index] else None
        # 2 hits / (actual + predicted) is the harmonic mean of both, and 0 where nothing was predicted.
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
        "classes": list(classes),
    }


def _plain(value):
    return None if value is None else float(value)
