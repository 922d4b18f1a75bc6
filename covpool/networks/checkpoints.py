"""Weights on disk: TensorFlow V2 checkpoints in the layout of the original, read and written.

The originals keep a network's variables under one scope, `CovPoolNetwork/` (model 1), `CovPool2/` (model 2) or, in
the authors' released files, `DLP-CNN/`, and `Logits/` beside it. Ours have the same names, so either side reads the
other's. A file may lack `Logits/` (a network to fine-tune on other classes), and may hold more than weights (an
optimiser's state, averages, the step), which is passed over.
"""

import re

import numpy as np
import tensorflow.compat.v1 as tf

from covpool.networks.covpoolnet import SCOPES

KNOWN_SCOPES = tuple(sorted(set(SCOPES.values()) | {"DLP-CNN"}))
LOGITS = "Logits/"
# The last part of a weight's name in the original; what ends otherwise belongs to an optimiser or an average.
_WEIGHT = re.compile(r"(?:^|/)(?:weights|biases|beta|gamma|moving_mean|moving_variance|orth_weight\d+)\Z")

# What the TensorFlow builds raise for a checkpoint that is missing or damaged.
_DAMAGED = (tf.errors.OpError, RuntimeError, ValueError, LookupError)


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or does not fit the network."""


class WriteOp:
    """Writes tensors of a graph, by name, as a checkpoint: the same names and values give the same bytes."""

    def __init__(self, tensors):
        names = sorted(tensors)
        with tf.device("/cpu:0"):
            self._prefix = tf.placeholder(tf.string, [])
            self._write = tf.raw_ops.SaveV2(
                prefix=self._prefix,
                tensor_names=tf.constant(names),
                shape_and_slices=tf.constant([""] * len(names)),
                tensors=[tensors[name] for name in names],
            )

    def __call__(self, session, prefix):
        session.run(self._write, {self._prefix: str(prefix)})


class LoadOp:
    """Gives variables of a graph the values of a dictionary of arrays, by name."""

    def __init__(self, variables):
        self.shapes = {each.op.name: tuple(each.shape.as_list()) for each in variables}
        self._feeds = {each.op.name: tf.placeholder(tf.float32, each.shape) for each in variables}
        self._loads = {each.op.name: tf.assign(each, self._feeds[each.op.name]).op for each in variables}

    def __call__(self, session, weights):
        for name in sorted(weights):
            session.run(self._loads[name], {self._feeds[name]: weights[name]})


def read_shapes(prefix):
    """The shapes of a checkpoint's weights, {name: shape}, under their names below the network's scope.

    `Conv2d_1/weights`, `fc_1/BatchNorm/beta`, `Logits/biases`, ... Raises CheckpointError where there is no
    checkpoint, or none of a network of ours.
    """
    reader = _open(str(prefix))
    found = _weights_of(reader)
    scope = _scope(f"the checkpoint {prefix}", found)
    return {_below(scope, name): shape for name, shape in found.items()}


def read_weights(prefix, shapes):
    """The weights of a checkpoint under the names that a network knows them by.

    prefix: of a V2 checkpoint's files. shapes: what the network wants, {name: shape}.

    Returns {name: float32 array}, without `Logits/` where the file has none. Raises CheckpointError which lists every
    name that is missing or too many, every shape that differs, and every weight that is not finite.
    """
    prefix = str(prefix)
    reader = _open(prefix)
    found = _weights_of(reader)
    scope = _scope(f"the checkpoint {prefix}", found)
    wanted_scope = _scope("the network", shapes)
    names = {name: name if name.startswith(LOGITS) else wanted_scope + _below(scope, name) for name in found}
    _compare(prefix, {names[name]: shape for name, shape in found.items()}, shapes)
    try:
        weights = {ours: np.asarray(reader.get_tensor(name), np.float32) for name, ours in names.items()}
    except _DAMAGED as error:
        raise CheckpointError(f"the checkpoint {prefix} is damaged: {_first_line(error)}") from None
    bad = sorted(name for name, values in weights.items() if not np.isfinite(values).all())
    if bad:
        raise CheckpointError("the checkpoint {} has values that are not finite in {}".format(prefix, ", ".join(bad)))
    return weights


def _open(prefix):
    try:
        return tf.train.load_checkpoint(prefix)
    except _DAMAGED as error:
        raise CheckpointError(
            f"no checkpoint at {prefix}: wanted the files {prefix}.index and {prefix}.data-00000-of-00001, and the path without their "
            f"endings ({_first_line(error)})"
        ) from None


def _weights_of(reader):
    shapes = reader.get_variable_to_shape_map()
    return {name: tuple(shape) for name, shape in shapes.items() if _WEIGHT.search(name)}


def _below(scope, name):
    return name[len(scope) :] if name.startswith(scope) else name


def _scope(where, names):
    scopes = sorted({name.split("/", 1)[0] for name in names if not name.startswith(LOGITS)})
    if len(scopes) != 1 or scopes[0] not in KNOWN_SCOPES:
        raise CheckpointError(
            "{} has weights under {}: wanted one of the scopes {}".format(
                where, ", ".join(scope + "/" for scope in scopes) or "no scope", ", ".join(KNOWN_SCOPES)
            )
        )
    return scopes[0] + "/"


def _compare(prefix, found, wanted):
    has_logits = any(name.startswith(LOGITS) for name in found)
    missing = [name for name in wanted if name not in found and (has_logits or not name.startswith(LOGITS))]
    surplus = [name for name in found if name not in wanted]
    lines = [f"  {name}: is missing" for name in sorted(missing)]
    lines += [f"  {name}: the network has no such weight" for name in sorted(surplus)]
    lines += [
        f"  {name}: has the shape {list(found[name])}, wanted {list(wanted[name])}"
        for name in sorted(found)
        if name in wanted and found[name] != tuple(wanted[name])
    ]
    if lines:
        raise CheckpointError("the checkpoint {} does not fit the network:\n{}".format(prefix, "\n".join(lines)))


def _first_line(error):
    return str(error).strip().split("\n")[0]
