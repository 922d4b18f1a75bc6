"""The name scope of all operations on SPD matrices and on the Stiefel manifold.

Half precision cannot represent a ridge of 1e-4 beside large variances, or columns that are orthonormal to 1e-6. If a
device changes operations to half precision automatically, it finds those that must stay in float32 by this name.
"""

import functools
import re
from typing import Any, Callable, List, TypeVar, cast

import tensorflow.compat.v1 as tf

SCOPE = "spd"
Function = TypeVar("Function", bound=Callable[..., Any])
_INSIDE = re.compile(rf"(^|/){SCOPE}(_\d+)?/")


def in_scope(function: Function) -> Function:
    """Decorate `function` so that the operations it builds are in the scope `SCOPE`."""

    @functools.wraps(function)
    def scoped(*arguments, **options):
        with tf.name_scope(SCOPE):
            return function(*arguments, **options)

    return cast(Function, scoped)


def operations(graph: tf.Graph) -> List[tf.Operation]:
    """Return the operations of a graph that are in the scope, and those of their gradients, which carry its name."""
    return [operation for operation in graph.get_operations() if _INSIDE.search(operation.name)]
