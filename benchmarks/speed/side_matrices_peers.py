"""Covariance pooling, BiMap, ReEig and LogEig alone, by spd_learn (PyTorch) and pyRiemann (NumPy; no gradients)."""

import numpy as np
import pyriemann
import spd_learn
import torch
from pyriemann.geometry.base import logm
from spd_learn.functional import sample_covariance
from spd_learn.modules import BiMap, CovLayer, LogEig, ReEig

from benchmarks.speed import answering, problem


class SpdLearn:
    def __init__(self, features, w, cotangent):
        self.features = torch.from_numpy(features).mT.contiguous().requires_grad_()
        self.cotangent = torch.from_numpy(cotangent)
        self.covariance = CovLayer(sample_covariance)
        self.map = BiMap(*w.shape, parametrized=False)
        with torch.no_grad():
            self.map.weight.copy_(torch.from_numpy(w)[None])
        self.rectify = ReEig(threshold=problem.EPSILON)
        self.logarithm = LogEig(upper=False, flatten=False)

    def value(self):
        covariance = self.covariance(self.features)
        trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        covariance = covariance + problem.RIDGE * trace * torch.eye(covariance.shape[-1])
        return self.logarithm(self.rectify(self.map(covariance)))

    def forward(self):
        with torch.inference_mode():
            return self.value()

    def both(self):
        self.features.grad = self.map.weight.grad = None
        value = self.value()
        value.backward(self.cotangent.reshape(value.shape))
        return value

    def results(self):
        value = self.both()
        return {
            "value": value.detach().numpy().reshape(self.cotangent.shape),
            "features": self.features.grad.mT.numpy(),
            "w": self.map.weight.grad[0].numpy(),
        }


class PyRiemann:
    def __init__(self, features, w, cotangent):
        self.features, self.w = features, w

    def forward(self):
        centred = self.features - self.features.mean(axis=1, keepdims=True)
        covariance = centred.transpose(0, 2, 1) @ centred / (centred.shape[1] - 1)
        trace = np.trace(covariance, axis1=1, axis2=2)[:, None, None]
        covariance += np.float32(problem.RIDGE) * trace * np.eye(covariance.shape[1], dtype=np.float32)
        return logm(self.w.T @ covariance @ self.w)

    def results(self):
        return {"value": self.forward()}


class Side:
    def open(self, path, library):
        found = np.load(path)
        made = {"spd_learn": SpdLearn, "pyriemann": PyRiemann}[library]
        self.layers = made(found["features"], found["w"], found["cotangent"])

    def results(self, out):
        np.savez(out, **self.layers.results())

    def forward(self, repeats=1):
        return answering.seconds_of(self.layers.forward, repeats)

    def both(self, repeats=1):
        return answering.seconds_of(self.layers.both, repeats)

    def about(self):
        return {"spd_learn": spd_learn.__version__, "pyriemann": pyriemann.__version__}


def main():
    side = Side()
    names = ("open", "results", "forward", "both", "about")
    answering.serve({name: getattr(side, name) for name in names})


if __name__ == "__main__":
    main()
