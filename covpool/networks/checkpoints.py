"""Reads and writes weights as TensorFlow V2 checkpoints in the layout of the original.

The originals keep a network's variables under one scope, `CovPoolNetwork/` (model 1), `CovPool2/` (model 2) or, in
the authors' released files, `DLP-CNN/`, and `Logits/` beside it. This package uses the same names, so either program
reads the other's checkpoints. A file may lack `Logits/` (a network to fine-tune on other classes). Anything else in it
than weights (an optimiser's state, averages, the step) is ignored.
"""

import re
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple, Union

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.networks.covpoolnet import SCOPES

#: {name: shape}
Shapes = Dict[str, Tuple[int, ...]]

KNOWN_SCOPES = tuple(sorted(set(SCOPES.values()) | {"DLP-CNN"}))
LOGITS = "Logits/"
# The last part of a weight's name in the original; other names belong to an optimiser or an average.
_WEIGHT = re.compile(r"(?:^|/)(?:weights|biases|beta|gamma|moving_mean|moving_variance|orth_weight\d+)\Z")

# The errors that the TensorFlow builds raise for a missing or damaged checkpoint.
_DAMAGED = (tf.errors.OpError, RuntimeError, ValueError, LookupError)


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or does not fit the network."""


class WriteOp:
    """Writes tensors of a graph as a checkpoint: the same names and values give the same bytes.

    Args:
        tensors: the tensors by their names in the checkpoint. The operations are added to their graph.
    """

    def __init__(self, tensors: Mapping[str, tf.Tensor]):
        names = sorted(tensors)
        with tf.device("/cpu:0"):
            self._prefix = tf.placeholder(tf.string, [])
            self._write = tf.raw_ops.SaveV2(
                prefix=self._prefix,
                tensor_names=tf.constant(names),
                shape_and_slices=tf.constant([""] * len(names)),
                tensors=[tensors[name] for name in names],
            )

    def __call__(self, session: tf.Session, prefix: Union[str, Path]) -> None:
        """Write the checkpoint `prefix`, a path without the endings."""
        session.run(self._write, {self._prefix: str(prefix)})


class LoadOp:
    """Assigns arrays to variables of a graph, by name.

    Args:
        variables: float32 variables. The operations are added to their graph.

    Attributes:
        shapes: the variables' shapes by name.
    """

    def __init__(self, variables: Sequence[tf.Variable]):
        self.shapes = {each.op.name: tuple(each.shape.as_list()) for each in variables}
        self._feeds = {each.op.name: tf.placeholder(tf.float32, each.shape) for each in variables}
        self._loads = {each.op.name: tf.assign(each, self._feeds[each.op.name]).op for each in variables}

    def __call__(self, session: tf.Session, weights: Mapping[str, np.ndarray]) -> None:
        """Assign `weights`, float32 arrays by name; other variables keep their values."""
        for name in sorted(weights):
            session.run(self._loads[name], {self._feeds[name]: weights[name]})


def read_shapes(prefix: Union[str, Path]) -> Shapes:
    """Read the shapes of a checkpoint's weights.

    Args:
        prefix: the checkpoint's path without the endings.

    Returns:
        The shapes by name, without the network's scope: `Conv2d_1/weights`, `fc_1/BatchNorm/beta`, `Logits/biases`...

    Raises:
        CheckpointError: if there is no checkpoint, or its weights are under an unknown scope.
    """
    reader = _open(str(prefix))
    found = _weights_of(reader)
    scope = _scope(f"the checkpoint {prefix}", found)
    return {_below(scope, name): shape for name, shape in found.items()}


def read_weights(prefix: Union[str, Path], shapes: Mapping[str, Sequence[int]]) -> Dict[str, np.ndarray]:
    """Read the weights of a checkpoint under a network's variable names.

    Args:
        prefix: the checkpoint's path without the endings.
        shapes: the shapes of the network's variables by name.

    Returns:
        float32 arrays by the network's variable names; without `Logits/` if the file has none.

    Raises:
        CheckpointError: if the checkpoint is missing or damaged or does not fit. The message lists each missing or
            surplus name and each different shape, or each weight with values that are not finite.
    """
    prefix = str(prefix)
    reader = _open(prefix)
    found = _weights_of(reader)
    scope = _scope(f"the checkpoint {prefix}", found)
    own_scope = _scope("the network", shapes)
    names = {name: name if name.startswith(LOGITS) else own_scope + _below(scope, name) for name in found}
    _compare(prefix, {names[name]: shape for name, shape in found.items()}, shapes)
    try:
        weights = {ours: np.asarray(reader.get_tensor(name), np.float32) for name, ours in names.items()}
    except _DAMAGED as error:
        raise CheckpointError(f"the checkpoint {prefix} is damaged: {_first_line(error)}") from None
    bad = sorted(name for name, values in weights.items() if not np.isfinite(values).all())
    if bad:
        raise CheckpointError(f"the checkpoint {prefix} has values that are not finite in {', '.join(bad)}")
    return weights


def _open(prefix):
    """A checkpoint's reader."""
    try:
        return tf.train.load_checkpoint(prefix)
    except _DAMAGED as error:
        raise CheckpointError(
            f"no checkpoint at {prefix}: expected the files {prefix}.index and {prefix}.data-00000-of-00001; give the "
            f"path without these endings ({_first_line(error)})"
        ) from None


def _weights_of(reader):
    """The shapes of the variables in a checkpoint that are weights."""
    shapes = reader.get_variable_to_shape_map()
    return {name: tuple(shape) for name, shape in shapes.items() if _WEIGHT.search(name)}


def _below(scope, name):
    """A name without the scope."""
    return name[len(scope) :] if name.startswith(scope) else name


def _scope(where, names):
    """The one known scope of names, with its slash."""
    scopes = sorted({name.split("/", 1)[0] for name in names if not name.startswith(LOGITS)})
    if len(scopes) != 1 or scopes[0] not in KNOWN_SCOPES:
        raise CheckpointError(
            f"expected {where} to have its weights under one of the scopes {', '.join(KNOWN_SCOPES)}, got "
            f"{', '.join(scope + '/' for scope in scopes) or 'no scope'}"
        )
    return scopes[0] + "/"


def _compare(prefix, found, expected):
    """CheckpointError with a line for each weight that does not fit."""
    has_logits = any(name.startswith(LOGITS) for name in found)
    missing = [name for name in expected if name not in found and (has_logits or not name.startswith(LOGITS))]
    surplus = [name for name in found if name not in expected]
    lines = [f"  {name}: is missing" for name in sorted(missing)]
    lines += [f"  {name}: the network has no such weight" for name in sorted(surplus)]
    lines += [
        f"  {name}: expected shape {list(expected[name])}, got {list(found[name])}"
        for name in sorted(found)
        if name in expected and found[name] != tuple(expected[name])
    ]
    if lines:
        raise CheckpointError("\n".join([f"the checkpoint {prefix} does not fit the network:", *lines]))


def _first_line(error):
    return str(error).strip().split("\n")[0]
