"""The training loss: cross entropy, weight decay and center loss, added up as the Ascend port does and reported apart.

Center loss: Y. Wen, K. Zhang, Z. Li, Y. Qiao: A Discriminative Feature Learning Approach for Deep Face Recognition,
ECCV 2016.
"""

import collections

import numpy as np
import tensorflow.compat.v1 as tf

from covpool import devices

Losses = collections.namedtuple("Losses", ["total", "cross_entropy", "l2", "center", "accuracy", "updates"])


def losses(endpoints, labels, kernels, classes, train, class_weights, workers=devices.ALONE):
    """All terms for one batch.

    endpoints: of `networks.build`; labels: int32 [b]; kernels: the variables that weight decay acts on; classes: their
    number; train: `params.Train`; class_weights: float32 [classes], or None; workers: see `devices.workers`.

    The mean over the workers of a term, and of its gradient, is that of their global batch.

    Returns scalars: `total` = `cross_entropy` + `l2` + `center` (the two last with their factors), the batch's
    `accuracy`, and `updates`, the operations that move the centres. For the gradient of `l2` see `with_decay`.
    """
    cross_entropy = weighted_cross_entropy(endpoints["logits"], labels, class_weights, workers)
    l2 = center = tf.zeros([])
    updates = []
    # A term with the factor 0 would still cost its pass over every weight.
    if train.weight_decay:
        # Not add_n, which adds in the order in which memory becomes free: the last digit would not repeat.
        l2 = train.weight_decay * tf.reduce_sum(tf.stack([tf.nn.l2_loss(kernel) for kernel in kernels]))
    if train.center_loss_factor:
        distance, updates = center_loss(endpoints["embeddings"], labels, classes, train.center_loss_alfa, workers)
        center = train.center_loss_factor * distance
    hits = tf.equal(tf.argmax(endpoints["logits"], axis=1, output_type=tf.int32), labels)
    accuracy = tf.reduce_mean(tf.cast(hits, tf.float32))
    return Losses(cross_entropy + l2 + center, cross_entropy, l2, center, accuracy, updates)


def with_decay(gradient, kernel, weight_decay, l2):
    """The gradient of a kernel with that of the term `l2`, weight_decay * kernel, added.

    Instead of leaving it to the loss: the product is as large as the kernel, and here it is made late and is gone soon.
    It comes after `l2`, so that this is the one of the weights before the step.
    """
    with tf.name_scope("decay"), tf.control_dependencies([gradient, l2]):
        return gradient + weight_decay * kernel.read_value()


def weighted_cross_entropy(logits, labels, class_weights=None, workers=devices.ALONE):
    """Mean softmax cross entropy of a batch; with weights, their weighted mean over the batch."""
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    if class_weights is None:
        return tf.reduce_mean(each)
    weights = tf.gather(tf.constant(class_weights, tf.float32), labels)
    return tf.reduce_sum(weights * each) / workers.mean(tf.reduce_sum(weights))


def balanced_class_weights(labels, classes):
    """Weights inverse to the classes' counts, whose mean over the pictures is 1: float32 [classes].

    A class without pictures has weight 0.
    """
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    return np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 0.0).astype(np.float32)


def center_loss(embeddings, labels, classes, alfa, workers=devices.ALONE):
    """Mean squared distance of embeddings [b, d] to the centres of their classes, and the centres' update.

    A centre starts at 0 and moves by (1 - alfa) times the mean difference of its class's embeddings in the batch, that
    of all workers (by the mean, not the sum, so that it does not overshoot in large batches). No gradient reaches the
    centres: they are moved densely, outside the optimiser.
    """
    width = int(embeddings.shape[1])
    centers = tf.get_variable(
        "centers", [classes, width], initializer=tf.zeros_initializer(), trainable=False, use_resource=True
    )
    members = tf.one_hot(labels, classes)
    before = tf.identity(centers)
    difference = embeddings - tf.matmul(members, before)
    moved = tf.matmul(members, difference, transpose_a=True)
    counts = tf.reduce_sum(members, axis=0)[:, tf.newaxis]
    step = (1.0 - alfa) * workers.sum(moved) / tf.maximum(workers.sum(counts), 1.0)
    with tf.control_dependencies([difference]):
        update = centers.assign_add(tf.stop_gradient(step))
    return tf.reduce_mean(tf.square(difference)), [update]
