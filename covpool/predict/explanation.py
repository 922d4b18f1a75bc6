"""Where in a face the evidence for a class lies: integrated gradients over the covariance matrix, in NumPy.

M. Sundararajan, A. Taly, Q. Yan: Axiomatic Attribution for Deep Networks, ICML 2017. The path is straight, from X_0 =
tr(X) / n I, "the same contrast, no correlation", to the matrix X of the face after BiMap. With the mean gradient G of
the class's logit along it,

    logit(X) - logit(X_0) = <G, X - X_0> = sum_p <G, X_p - tr(X_p) / n I>,

where X_p is the part of X that position p of the feature map adds. The summands are the map. Plain Grad-CAM is zero
here: the gradient at a position is linear in the centred features, so that its mean over the positions vanishes.

The gradient through the logarithm is exact: for X = U diag(s) U^T it is U (K o (U^T D U)) U^T with D the gradient at
log X and K_ij = (log s_i - log s_j) / (s_i - s_j), 1 / s_i for equal eigenvalues (Daleckii and Krein).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from covpool.predict.model import Model, ModelError

#: Points of the path, those of Gauss and Legendre.
STEPS = 16
#: Relative distance of two eigenvalues below which their divided difference is the derivative at their mean.
_CLOSE = 1e-4


class Found(NamedTuple):
    """The map [rows, columns], the difference of logits that it explains, and the error of its sum as a share of it."""

    map: np.ndarray
    difference: float
    completeness_error: float


class Explainer:
    """Explains the decisions of one network; holds its fully connected layers. May be used by several threads."""

    def __init__(self, model: Model) -> None:
        """Read the layers behind the logarithm from the network's file."""
        from onnx import load, numpy_helper

        arrays = {
            each.name: numpy_helper.to_array(each)
            for each in load(str(model.path)).graph.initializer
            if each.name.endswith(("/kernel", "/bias")) and not each.name.startswith("Conv")
        }
        if "fc_1/kernel" not in arrays:
            raise ModelError(
                f"{model.path}: expected a network with the layer fc_1, which is missing. Export the network again."
            )
        names = [name for name in ("fc_1", "fc_2", "Bottleneck", "Logits") if name + "/kernel" in arrays]
        # Of each layer: kernel, bias, and whether a ReLU follows.
        self._layers = [
            (arrays[name + "/kernel"].astype(np.float32), arrays[name + "/bias"], name.startswith("fc_"))
            for name in names
        ]
        self._gaussian = model.metadata["network"]["pooling"] == "gaussian"

    def __call__(self, bimap: np.ndarray, positions: np.ndarray, target: int) -> Found:
        """Explain one decision.

        Args:
            bimap, positions: outputs of the network for one face, [n, n] and [n, P].
            target: place of the class.
        """
        matrix = bimap.astype(np.float64)
        matrix = (matrix + matrix.T) / 2
        size = len(matrix)
        start = np.trace(matrix) / size * np.eye(size)
        nodes, shares = np.polynomial.legendre.leggauss(STEPS)
        path = np.stack([start + (node + 1) / 2 * (matrix - start) for node in nodes])
        gradient = np.tensordot(shares / 2, self._gradients(path, target), 1)
        ends = self.logits(np.stack([start, matrix]))[:, target]
        difference = float(ends[1] - ends[0])
        values = self._of_positions(matrix, positions.astype(np.float64), gradient)
        error = abs(float(values.sum()) - difference) / max(abs(difference), 1.0)
        side = round(np.sqrt(len(values)))
        return Found(values.reshape(side, side).astype(np.float32), difference, error)

    def logits(self, matrices: np.ndarray) -> np.ndarray:
        """Logits [b, classes] of matrices [b, n, n] after BiMap, with an eigendecomposition instead of a polynomial."""
        spectra, frames = np.linalg.eigh(matrices)
        return self._head((frames * _log(spectra)[:, np.newaxis]) @ frames.transpose(0, 2, 1))[-1]

    def _head(self, logarithms: np.ndarray) -> list[np.ndarray]:
        """The outputs of all layers, for logarithms [b, n, n]."""
        rows, columns = np.triu_indices(logarithms.shape[1])
        values = [logarithms[:, rows, columns].astype(np.float32)]
        for kernel, bias, relu in self._layers:
            value = values[-1] @ kernel + bias
            values.append(np.maximum(value, 0) if relu else value)
        return values

    def _gradients(self, matrices: np.ndarray, target: int) -> np.ndarray:
        """Gradients [b, n, n] of the target's logit at matrices [b, n, n]."""
        spectra, frames = np.linalg.eigh(matrices)
        logs = _log(spectra)
        values = self._head((frames * logs[:, np.newaxis]) @ frames.transpose(0, 2, 1))
        flow = np.zeros_like(values[-1])
        flow[:, target] = 1
        for (kernel, _, relu), value in zip(self._layers[::-1], values[:0:-1], strict=True):
            flow = (flow * (value > 0) if relu else flow) @ kernel.T
        size = matrices.shape[1]
        rows, columns = np.triu_indices(size)
        outer = np.zeros([len(matrices), size, size])
        # The entry and its mirror image share the flow: the gradient of a symmetric matrix is symmetric.
        outer[:, rows, columns] = flow / 2
        outer = outer + outer.transpose(0, 2, 1)
        first, second = spectra[:, :, np.newaxis], spectra[:, np.newaxis]
        distance = first - second
        close = np.abs(distance) <= _CLOSE * (first + second)
        slopes = np.where(
            close,
            2 / np.maximum(first + second, _TINY),
            (logs[:, :, np.newaxis] - logs[:, np.newaxis]) / np.where(close, 1, distance),
        )
        inner = frames.transpose(0, 2, 1) @ outer @ frames
        return frames @ (slopes * inner) @ frames.transpose(0, 2, 1)

    def _of_positions(self, matrix: np.ndarray, positions: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """<G, X_p - tr(X_p) / n I> of each position [P]; the parts X_p add up to the matrix."""
        size, count = positions.shape
        mean = positions.mean(1, keepdims=True)
        centred = positions - mean
        bent = gradient - np.trace(gradient) / size * np.eye(size)
        values = np.einsum("ip,ij,jp->p", centred, bent, centred, optimize=True) / (count - 1)
        rest = matrix - centred @ centred.T / (count - 1)
        if self._gaussian:
            # The mean's matrix is the mean over positions of (u_p m^T + m u_p^T) / 2.
            values = values + (positions.T @ bent @ mean)[:, 0] / count
            rest = rest - mean @ mean.T
        # The ridge is a share of the trace, to which each position adds its squared length.
        squares = np.sum(centred**2, axis=0)
        return values + squares / max(squares.sum(), _TINY) * np.sum(bent * rest)


_TINY = float(np.finfo(np.float64).tiny)


def _log(spectra: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(spectra, np.finfo(np.float32).eps ** 2))
