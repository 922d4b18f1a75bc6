"""The training loss: the sum of cross entropy, weight decay and center loss, as in the Ascend port.

Center loss: Y. Wen, K. Zhang, Z. Li, Y. Qiao: A Discriminative Feature Learning Approach for Deep Face Recognition,
ECCV 2016.
"""

import collections
from typing import Any, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from covpool import devices

Losses = collections.namedtuple("Losses", ["total", "cross_entropy", "l2", "center", "accuracy", "updates"])


def losses(
    endpoints: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    kernels: Sequence[tf.Variable],
    num_classes: int,
    train: Any,
    class_weights: Optional[np.ndarray],
    workers: Any = devices.ALONE,
) -> Losses:
    """Compute all terms of the loss for one batch of b pictures.

    The mean of a term over the workers, and of its gradient, is that of their global batch.

    Args:
        endpoints: from `networks.build`; `logits` [b, num_classes] and `embeddings` [b, d] are used.
        labels: int32 [b].
        kernels: the variables that weight decay acts on.
        num_classes: the number of classes.
        train: the section `train` of the parameters.
        class_weights: float32 [num_classes], or None.
        workers: the workers that train together, see `devices.workers`.

    Returns:
        float32 scalars: `total` = `cross_entropy` + `l2` + `center` (`l2` and `center` include their factors), and the
        batch's `accuracy`; and `updates`, the operations that move the centres. See `with_decay` for the gradient of
        `l2`.
    """
    cross_entropy = weighted_cross_entropy(endpoints["logits"], labels, class_weights, workers)
    l2 = center = tf.zeros([])
    updates = []
    # Also with the factor 0, computing a term would read every weight.
    if train.weight_decay:
        # Not add_n: it adds in the order in which memory becomes free, so the last digit would not be reproducible.
        l2 = train.weight_decay * tf.reduce_sum(tf.stack([tf.nn.l2_loss(kernel) for kernel in kernels]))
    if train.center_loss_factor:
        distance, updates = center_loss(endpoints["embeddings"], labels, num_classes, train.center_loss_alfa, workers)
        center = train.center_loss_factor * distance
    hits = tf.equal(tf.argmax(endpoints["logits"], axis=1, output_type=tf.int32), labels)
    accuracy = tf.reduce_mean(tf.cast(hits, tf.float32))
    return Losses(cross_entropy + l2 + center, cross_entropy, l2, center, accuracy, updates)


def with_decay(gradient: tf.Tensor, kernel: tf.Variable, weight_decay: float, l2: tf.Tensor) -> tf.Tensor:
    """Add the gradient of the term `l2`, weight_decay * kernel, to the gradient of a kernel.

    The product is as large as the kernel; here it is computed late, so that its buffer is short-lived. It is ordered
    after `l2`, so that `l2` is that of the weights before the step.

    Args:
        gradient: of the other terms, of the shape of `kernel`.
        kernel: a variable.
        weight_decay: the factor.
        l2: the term of the loss, a scalar.

    Returns:
        A tensor of the shape of `kernel`.
    """
    with tf.name_scope("decay"), tf.control_dependencies([gradient, l2]):
        return gradient + weight_decay * kernel.read_value()


def weighted_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, class_weights: Optional[np.ndarray] = None, workers: Any = devices.ALONE
) -> tf.Tensor:
    """Compute the mean softmax cross entropy of a batch, or the mean weighted by the pictures' classes.

    Args:
        logits: float32 [b, num_classes].
        labels: int32 [b].
        class_weights: float32 [num_classes], or None.
        workers: the workers that train together: the divisor is the mean of their sums of weights.

    Returns:
        A scalar.
    """
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    if class_weights is None:
        return tf.reduce_mean(each)
    weights = tf.gather(tf.constant(class_weights, tf.float32), labels)
    return tf.reduce_sum(weights * each) / workers.mean(tf.reduce_sum(weights))


def balanced_class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Compute weights inversely proportional to the classes' counts, with mean 1 over the pictures.

    Args:
        labels: integers [n].
        num_classes: the number of classes.

    Returns:
        float32 [num_classes]; 0 for a class without pictures.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = counts > 0
    return np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 0.0).astype(np.float32)


def center_loss(
    embeddings: tf.Tensor, labels: tf.Tensor, num_classes: int, alfa: float, workers: Any = devices.ALONE
) -> Tuple[tf.Tensor, List[tf.Operation]]:
    """Compute the mean squared distance of embeddings to the centres of their classes, and the centres' update.

    A centre starts at 0. In each step it moves by (1 - alfa) times the mean of (embedding - centre) over the pictures
    of its class in the global batch. A sum instead of the mean would overshoot in large batches. No gradient
    reaches the centres.

    Args:
        embeddings: float32 [b, d].
        labels: int32 [b].
        num_classes: the number of classes.
        alfa: the share of a centre that is kept, in [0, 1].
        workers: the workers that train together.

    Returns:
        The mean of (embedding - centre)^2 over all b d entries, a scalar; and the operations that move the centres.
    """
    width = int(embeddings.shape[1])
    centers = tf.get_variable(
        "centers", [num_classes, width], initializer=tf.zeros_initializer(), trainable=False, use_resource=True
    )
    members = tf.one_hot(labels, num_classes)
    before = tf.identity(centers)
    difference = embeddings - tf.matmul(members, before)
    moved = tf.matmul(members, difference, transpose_a=True)
    counts = tf.reduce_sum(members, axis=0)[:, tf.newaxis]
    step = (1.0 - alfa) * workers.sum(moved) / tf.maximum(workers.sum(counts), 1.0)
    with tf.control_dependencies([difference]):
        update = centers.assign_add(tf.stop_gradient(step))
    return tf.reduce_mean(tf.square(difference)), [update]
