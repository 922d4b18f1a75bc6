"""The same network on PyTorch, as a measured side: channels-last, fused Adam, W kept on the Stiefel manifold.

The logarithm is either `textbook`, ReEig and LogEig with an eigendecomposition each and autograd's own gradient, or
`fused`, one eigendecomposition with the gradient of Daleckii and Krein. Dropout, augmentation and the moving average,
which the pipeline's own step has, are left out here, to the peer's advantage.
"""

import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed import answering, problem


class FusedLogarithm(torch.autograd.Function):
    """log(clip(X)) of symmetric matrices [B, n, n], with its exact gradient."""

    @staticmethod
    def forward(context, x):
        s, u = torch.linalg.eigh(x)
        clipped = s.clamp(problem.EPSILON, problem.MAXIMUM)
        context.save_for_backward(s, u, clipped)
        return (u * clipped.log()[:, None, :]) @ u.mT

    @staticmethod
    def backward(context, gradient):
        s, u, clipped = context.saved_tensors
        difference = s[:, :, None] - s[:, None, :]
        logarithms = clipped.log()
        # Of eigenvalues that are nearly equal the slope, at their mean: the quotient would be all rounding.
        near = difference.abs() < 1e-3 * (s[:, :, None] + s[:, None, :]).abs()
        mean = 0.5 * (clipped[:, :, None] + clipped[:, None, :])
        inside = (s > problem.EPSILON) & (s < problem.MAXIMUM)
        slope = (inside[:, :, None] & inside[:, None, :]) / mean
        quotient = (logarithms[:, :, None] - logarithms[:, None, :]) / torch.where(near, 1.0, difference)
        inner = u.mT @ (0.5 * (gradient + gradient.mT)) @ u
        return u @ (torch.where(near, slope, quotient) * inner) @ u.mT


def textbook_logarithm(x):
    s, u = torch.linalg.eigh(x)
    rectified = (u * s.clamp(problem.EPSILON, problem.MAXIMUM)[:, None, :]) @ u.mT
    s, u = torch.linalg.eigh(rectified)
    return (u * s.clamp(problem.EPSILON, problem.MAXIMUM).log()[:, None, :]) @ u.mT


LOGARITHMS = {"textbook": textbook_logarithm, "fused": FusedLogarithm.apply}


class BatchNorm(nn.Module):
    """Normalisation with a shift and no scale."""

    def __init__(self, channels):
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x):
        return functional.batch_norm(
            x,
            self.mean,
            self.variance,
            None,
            self.beta,
            self.training,
            1 - problem.BATCH_NORM_DECAY,
            problem.BATCH_NORM_EPSILON,
        )


class Network(nn.Module):
    """covpoolnet2 on [B, 3, 100, 100]."""

    def __init__(self):
        super().__init__()
        channels = (3, 64, 96, 128, 128, 256, 256)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False) for inputs, outputs in zip(channels, channels[1:])
        )
        self.norms = nn.ModuleList(BatchNorm(each) for each in channels[1:])
        self.w = nn.Parameter(torch.empty(256, 128))
        self.fc_1, self.fc_1_norm = nn.Linear(128 * 128, 2000, bias=False), BatchNorm(2000)
        self.bottleneck, self.bottleneck_norm = nn.Linear(2000, 128, bias=False), BatchNorm(128)
        self.classifier = nn.Linear(128, problem.CLASSES)
        self.register_buffer("centers", torch.zeros(problem.CLASSES, 128))
        self.logarithm = "fused"

    def forward(self, x):
        for name, convolution, norm in zip(problem.CONVOLUTIONS, self.convolutions, self.norms):
            x = functional.relu(norm(convolution(x)))
            x = functional.max_pool2d(x, 2) if name in problem.POOLED_AFTER else x
        x = x.flatten(2)
        x = x - x.mean(2, keepdim=True)
        covariance = x @ x.mT / (x.shape[2] - 1)
        trace = covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        covariance = covariance + problem.RIDGE * trace * torch.eye(len(self.w), dtype=x.dtype)
        logarithm = LOGARITHMS[self.logarithm](self.w.mT @ covariance @ self.w)
        hidden = functional.relu(self.fc_1_norm(self.fc_1(logarithm.flatten(1))))
        embeddings = self.bottleneck_norm(self.bottleneck(hidden))
        return embeddings, self.classifier(embeddings)

    def kernels(self):
        """The weights that weight decay acts on."""
        return [
            *(each.weight for each in self.convolutions),
            self.fc_1.weight,
            self.bottleneck.weight,
            self.classifier.weight,
        ]

    def by_name(self):
        """{name in `problem`'s files: (parameter, the order of its axes there)}."""
        found = {problem.BIMAP: (self.w, (0, 1)), "Logits/biases": (self.classifier.bias, (0,))}
        for name, convolution, norm in zip(problem.CONVOLUTIONS, self.convolutions, self.norms):
            found[name + "/weights"] = (convolution.weight, (2, 3, 1, 0))
            found[name + "/BatchNorm/beta"] = (norm.beta, (0,))
        for name, layer in (("fc_1", self.fc_1), ("Bottleneck", self.bottleneck), ("Logits", self.classifier)):
            found[name + "/weights"] = (layer.weight, (1, 0))
        for name, norm in (("fc_1", self.fc_1_norm), ("Bottleneck", self.bottleneck_norm)):
            found[name + "/BatchNorm/beta"] = (norm.beta, (0,))
        return found

    def load(self, path):
        values = np.load(path)
        with torch.no_grad():
            for name, (parameter, axes) in self.by_name().items():
                parameter.copy_(torch.from_numpy(values[name]).permute(*np.argsort(axes).tolist()))


class Side:
    def open(self, weights, training=True):
        self.network = Network()
        self.network.load(weights)
        self.network.train(training).to(memory_format=torch.channels_last)
        pictures, labels = problem.synthetic_pictures(problem.BATCH, problem.SIZE)
        self.pictures, self.labels = _tensors(pictures, labels)
        others = [each for each in self.network.parameters() if all(each is not kernel for kernel in self._decayed())]
        self.optimizer = torch.optim.Adam(
            [{"params": self._decayed(), "weight_decay": problem.WEIGHT_DECAY}, {"params": others}],
            lr=problem.RATE,
            betas=(problem.ADAM["beta1"], problem.ADAM["beta2"]),
            eps=problem.ADAM["epsilon"],
            fused=True,
        )

    def _decayed(self):
        return self.network.kernels()

    def gradients(self, weights, batch, out, logarithm, double=False):
        """Write the first step's loss and gradients, weight decay's included; double: in float64, as the truth."""
        dtype = torch.float64 if double else torch.float32
        network = Network()
        network.load(weights)
        network.to(dtype=dtype, memory_format=torch.channels_last)
        network.logarithm = logarithm
        found = np.load(batch)
        pictures, labels = _tensors(found["pictures"], found["labels"])
        loss, _ = _loss(network, pictures.to(dtype), labels)
        loss.backward()
        with torch.no_grad():
            for kernel in network.kernels():
                kernel.grad += problem.WEIGHT_DECAY * kernel
        values = {name: each.grad.permute(*axes).numpy() for name, (each, axes) in network.by_name().items()}
        values[problem.BIMAP] = problem.tangent(found["frame"], values[problem.BIMAP])
        np.savez(out, loss=loss.item(), **values)

    def step(self, logarithm, repeats=1):
        self.network.logarithm = logarithm
        return answering.seconds_of(self._step, repeats)

    def _step(self):
        network, w = self.network, self.network.w
        self.optimizer.zero_grad()
        loss, embeddings = _loss(network, self.pictures, self.labels)
        loss.backward()
        with torch.no_grad():
            w.grad.copy_(_tangent(w, w.grad))
            self.optimizer.step()
            q, r = torch.linalg.qr(w)
            w.copy_(q * torch.where(r.diagonal() < 0, -1.0, 1.0))
            moment = self.optimizer.state[w]["exp_avg"]
            moment.copy_(_tangent(w, moment))
            self._move_centers(embeddings)
        return loss.item()

    def _move_centers(self, embeddings):
        centers = self.network.centers
        members = functional.one_hot(self.labels, problem.CLASSES).to(centers.dtype)
        difference = embeddings - centers[self.labels]
        share = 1 - problem.PUBLISHED["train.center_loss_alfa"]
        centers += share * (members.T @ difference) / members.sum(0).clamp(min=1)[:, None]

    def score(self, pictures, repeats=1):
        batch = self.pictures[:pictures].contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return answering.seconds_of(lambda: self.network(batch)[1].softmax(1), repeats)

    def products(self, size, repeats=1):
        """Floating-point operations a second of float32 matrix products: the best call of each library."""
        left, right = (np.random.RandomState(seed).standard_normal((size, size)).astype(np.float32) for seed in (0, 1))
        ours, theirs = torch.from_numpy(left), torch.from_numpy(right)
        found = {
            f"PyTorch ({_blas()})": answering.seconds_of(lambda: ours @ theirs, repeats),
            "NumPy (OpenBLAS)": answering.seconds_of(lambda: left @ right, repeats),
        }
        return {name: 2 * size**3 / min(seconds) for name, seconds in found.items()}

    def about(self):
        return {
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "python": sys.version.split()[0],
            "blas": _blas(),
        }


def _blas():
    """The library of PyTorch's matrix products, by its build."""
    return "MKL" if torch.backends.mkl.is_available() else "OpenBLAS"


def _tensors(pictures, labels):
    pictures = torch.from_numpy(pictures.astype(np.float32)).permute(0, 3, 1, 2)
    return pictures.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels).long()


def _loss(network, pictures, labels):
    """Cross entropy and center loss, and the embeddings, detached; weight decay is the optimiser's."""
    embeddings, logits = network(pictures)
    center = (embeddings - network.centers[labels]).square().mean()
    loss = functional.cross_entropy(logits, labels) + problem.CENTER_FACTOR * center
    return loss, embeddings.detach()


def _tangent(w, gradient):
    inner = w.T @ gradient
    return gradient - w @ (0.5 * (inner + inner.T))


def main():
    side = Side()
    names = ("open", "gradients", "step", "score", "products", "about")
    answering.serve({name: getattr(side, name) for name in names})


if __name__ == "__main__":
    main()
