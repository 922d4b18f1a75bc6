"""The networks once more, in float64 NumPy from arrays alone, and weights under which they compute something real.

Nothing here looks at the package: names and shapes are those of the original's checkpoints.
"""

import numpy as np

CONVOLUTIONS = (
    ("Conv2d_1", 3, 64),
    ("Conv2d_2", 64, 96),
    ("Conv2d_3", 96, 128),
    ("Conv2d_4", 128, 128),
    ("Conv2d_5", 128, 256),
    ("Conv2dfo_6", 256, 256),
)
POOLED_AFTER = ("Conv2d_1", "Conv2d_2", "Conv2d_4")
EPSILON = 1e-3
SCOPES = {"covpoolnet": "CovPoolNetwork", "covpoolnet2": "CovPool2"}


def shapes(model, pooling="covariance", vectorise="full", embedding=128, classes=7):
    """{name below the scope: shape} of the original's weights, and of the variants."""
    found = {}

    def with_batch_norm(name, shape):
        found[name + "/weights"] = shape
        for part in ("beta", "moving_mean", "moving_variance"):
            found[name + "/BatchNorm/" + part] = shape[-1:]

    for name, inputs, outputs in CONVOLUTIONS:
        with_batch_norm(name, (3, 3, inputs, outputs))
    if pooling != "average":
        found["spdpooling1/orth_weight0"] = (256 + (pooling == "gaussian"), 128)
    flat = 256 if pooling == "average" else 128 * 128 if vectorise == "full" else 128 * 129 // 2
    with_batch_norm("fc_1", (flat, 2000))
    if model == "covpoolnet":
        with_batch_norm("fc_2", (2000, 128))
    with_batch_norm("Bottleneck", (128 if model == "covpoolnet" else 2000, embedding))
    found["Logits/weights"], found["Logits/biases"] = (embedding, classes), (classes,)
    return found


def weights(model, images, seed=0, **choices):
    """Random weights in float32 whose moving statistics fit `images`, so that no layer runs away or dies."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes(model, **choices).items():
        if name.endswith("orth_weight0"):
            found[name] = np.linalg.qr(rng.standard_normal(shape))[0]
        elif name.endswith("weights"):
            # 33 million numbers in fc_1: in float32 they are drawn and cut in a third of the time.
            found[name] = 0.1 * np.maximum(np.minimum(rng.standard_normal(shape, dtype=np.float32), 2), -2)
        else:
            found[name] = 0.3 * rng.standard_normal(shape)

    def statistics(name, values):
        axes = tuple(range(values.ndim - 1))
        jitter = np.exp(0.2 * rng.standard_normal((2, values.shape[-1])))
        found[name + "/BatchNorm/moving_mean"] = values.mean(axis=axes) * jitter[0]
        # Two pictures tell little of a channel's variance; one that is far too small would only magnify rounding.
        variance = np.maximum(values.var(axis=axes), values.var())
        found[name + "/BatchNorm/moving_variance"] = variance * jitter[1]

    forward(found, images, model, before_batch_norm=statistics, **choices)
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def forward(weights, images, model, pooling="covariance", vectorise="full", before_batch_norm=None, **_):
    """Every endpoint for images [n, h, w, 3], already as the network is to see them."""
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}

    def batch_norm(name, values):
        if before_batch_norm:
            before_batch_norm(name, values)
            w.update({key: np.asarray(weights[key], np.float64) for key in weights if key.startswith(name + "/Batch")})
        scale = np.sqrt(w[name + "/BatchNorm/moving_variance"] + EPSILON)
        return (values - w[name + "/BatchNorm/moving_mean"]) / scale + w[name + "/BatchNorm/beta"]

    net = np.asarray(images, np.float64)
    for name, _, _ in CONVOLUTIONS:
        net = np.maximum(batch_norm(name, convolve(net, w[name + "/weights"])), 0)
        net = max_pool(net) if name in POOLED_AFTER else net
    ends = {"features": net.reshape(len(net), -1, net.shape[-1])}
    flat = _pool(ends, w, pooling, vectorise)
    for name in ("fc_1", "fc_2") if model == "covpoolnet" else ("fc_1",):
        flat = np.maximum(batch_norm(name, flat @ w[name + "/weights"]), 0)
    ends["embeddings"] = batch_norm("Bottleneck", flat @ w["Bottleneck/weights"])
    ends["logits"] = ends["embeddings"] @ w["Logits/weights"] + w["Logits/biases"]
    exponentials = np.exp(ends["logits"] - ends["logits"].max(axis=1, keepdims=True))
    ends["probabilities"] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return ends


def _pool(ends, w, pooling, vectorise):
    features = ends["features"]
    if pooling == "average":
        return features.mean(axis=1)
    covariance = np.stack([np.cov(each, rowvar=False) for each in features])
    covariance += 1e-4 * np.trace(covariance, axis1=1, axis2=2)[:, None, None] * np.eye(256)
    if pooling == "gaussian":
        mean = features.mean(axis=1)
        covariance = np.stack(
            [
                np.block([[c + np.outer(m, m), m[:, None]], [m[None, :], np.ones((1, 1))]])
                for c, m in zip(covariance, mean)
            ]
        )
    weight = w["spdpooling1/orth_weight0"]
    ends["covariance"], ends["bimap"] = covariance, weight.T @ covariance @ weight
    values, vectors = np.linalg.eigh(ends["bimap"])
    clipped = np.clip(values, 1e-4, 1e4)
    ends["reeig"] = (vectors * clipped[:, None, :]) @ vectors.transpose(0, 2, 1)
    ends["logeig"] = (vectors * np.log(clipped)[:, None, :]) @ vectors.transpose(0, 2, 1)
    if vectorise == "full":
        return ends["logeig"].reshape(len(features), -1)
    rows, columns = np.triu_indices(128)
    return ends["logeig"][:, rows, columns] * np.where(rows == columns, 1, np.sqrt(2))


def convolve(images, kernel):
    """Correlation with zeros around, stride 1: [n, h, w, c] and [3, 3, c, d] -> [n, h, w, d]."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def max_pool(images):
    n, height, width, channels = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def standardised(images):
    """Each picture with mean 0 and deviation 1."""
    images = np.asarray(images, np.float64)
    axes = (1, 2, 3)
    return (images - images.mean(axis=axes, keepdims=True)) / images.std(axis=axes, keepdims=True)


def faces(count, size=100, seed=1):
    """Smooth random pictures, uint8: noise of several scales, so that positions are correlated as in photographs."""
    rng = np.random.RandomState(seed)
    picture = np.zeros((count, size, size, 3))
    for cell in (4, 10, 25):
        small = rng.standard_normal((count, -(-size // cell), -(-size // cell), 3))
        picture += cell * np.repeat(np.repeat(small, cell, axis=1), cell, axis=2)[:, :size, :size]
    return np.clip(128 + 2 * picture, 0, 255).astype(np.uint8)
