"""The name scope of everything on SPD matrices and on the Stiefel manifold.

Half precision can't hold a ridge of 1e-4 beside large variances, nor columns that are orthonormal to 1e-6. A device
that computes in half precision on its own finds by this name what it must leave in float32.
"""

import functools
import re

import tensorflow.compat.v1 as tf

SCOPE = "spd"
_INSIDE = re.compile(rf"(^|/){SCOPE}(_\d+)?/")


def in_scope(function):
    """Build what `function` builds in the scope."""

    @functools.wraps(function)
    def scoped(*arguments, **options):
        with tf.name_scope(SCOPE):
            return function(*arguments, **options)

    return scoped


def operations(graph):
    """The operations of a graph that were built in the scope, and those of their gradients, which carry their names."""
    return [operation for operation in graph.get_operations() if _INSIDE.search(operation.name)]
