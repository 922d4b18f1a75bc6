"""`covpoolnet` (model 1) and `covpoolnet2` (model 2) of CovPoolFER.

D. Acharya, Z. Huang, D. P. Paudel, L. Van Gool: Covariance Pooling for Facial Expression Recognition, CVPRW 2018
(arXiv 1805.04855), section 3. Six convolutions extract features of a face. Covariance pooling summarises their 12x12
positions in one symmetric positive definite matrix. BiMap, ReEig and LogEig (Z. Huang, L. Van Gool: A Riemannian
Network for SPD Matrix Learning, AAAI 2017) map it to a smaller matrix and to a flat space. Fully connected layers
classify it.

Layers and variables have the names of the original, including `Conv2dfo_6`, so that its checkpoints load unchanged.
"""

from collections import OrderedDict
from typing import Any, Dict

import numpy as np
import tensorflow.compat.v1 as tf

from covpool import spd
from covpool.networks.layers import Layers, seed_for, variable

#: model_def -> the variable scope in the original's checkpoints
SCOPES = {"covpoolnet": "CovPoolNetwork", "covpoolnet2": "CovPool2"}
POOLED = "spdpooling1"
BIMAP_WEIGHT = "orth_weight0"
BIMAP_SIZE = 128
FC_1, FC_2 = 2000, 128
#: The smallest share of the norm of a Gaussian's matrix that the iterative logarithm resolves in float32.
LEAST_GAUSSIAN_SHARE = 1e-6
#: The original's defaults, for settings that the shapes in its checkpoints do not show.
IMAGE_SIZE, EMBEDDING_SIZE, BATCH_NORM_DECAY = 100, 128, 0.995


def build(images: tf.Tensor, layers: Layers, network: Any, settings: Any, num_classes: int) -> Dict[str, tf.Tensor]:
    """Build the network on images.

    Args:
        images: float32 [B, size, size, 3], normalised as `network.normalisation` says.
        layers: builds the layers, for training or for scoring.
        network: the section `network` of the parameters, a `config.Network`.
        settings: the section `spd` of the parameters, a `config.Spd`.
        num_classes: the number of classes.

    Returns:
        The endpoints by name, float32, in the order of the computation:

        - `features` [B, P, 256], of P positions (144 for a size of 100),
        - `covariance` [B, 256, 256] (257 for Gaussian pooling), `bimap`, `reeig` and `logeig` [B, 128, 128],
        - `embeddings` [B, embedding_size], `logits` and `probabilities` [B, num_classes].

        With the iterative logarithm there is no `reeig`; with average pooling there are no matrices. In training,
        `covariance` (of covariance pooling) and `reeig` are not formed, and eigh gives `eigenvalues` [B, 128], before
        ReEig.
    """
    endpoints = OrderedDict()
    with tf.variable_scope(SCOPES[network.model_def]):
        endpoints["features"] = features = _convolutions(images, layers)
        pooled = _pool(features, layers, network, settings, endpoints)
        hidden = layers.dropout(layers.fully_connected(pooled, FC_1, "fc_1"), "fc_1/dropout")
        if network.model_def == "covpoolnet":
            hidden = layers.dropout(layers.fully_connected(hidden, FC_2, "fc_2"), "fc_2/dropout")
        embeddings = layers.fully_connected(hidden, network.embedding_size, "Bottleneck", relu=False)
    endpoints["embeddings"] = embeddings
    endpoints["logits"] = layers.logits(embeddings, num_classes)
    endpoints["probabilities"] = tf.nn.softmax(endpoints["logits"])
    return endpoints


def _convolutions(images, layers):
    """[B, 100, 100, 3] -> [B, 144, 256]: the features of the 12x12 positions."""
    net = layers.convolution(images, 64, "Conv2d_1", pooled=True, of_pictures=True)
    net = layers.convolution(net, 96, "Conv2d_2", pooled=True)
    net = layers.convolution(net, 128, "Conv2d_3")
    net = layers.convolution(net, 128, "Conv2d_4", pooled=True)
    net = layers.convolution(net, 256, "Conv2d_5")
    net = layers.convolution(net, 256, "Conv2dfo_6")
    return tf.reshape(net, [-1, int(net.shape[1]) * int(net.shape[2]), int(net.shape[3])])


@spd.in_scope
def _pool(features, layers, network, settings, endpoints):
    """[B, P, 256] -> [B, n]: second-order pooling and the SPD layers, or the mean over positions."""
    if network.pooling == "average":
        return tf.reduce_mean(features, axis=1)
    channels = int(features.shape[-1]) + (1 if network.pooling == "gaussian" else 0)
    with tf.variable_scope(POOLED):
        weight = variable(BIMAP_WEIGHT, [channels, BIMAP_SIZE], _orthonormal_initializer(layers.seed))
    if layers.training and network.pooling == "covariance":
        mapped = spd.projected_covariance(features, weight, ridge=settings.ridge)
    else:
        pool = spd.gaussian_pool if network.pooling == "gaussian" else spd.covariance_pool
        endpoints["covariance"] = pool(features, ridge=settings.ridge)
        mapped = spd.bimap(endpoints["covariance"], weight)
    endpoints["bimap"] = layers.outputs["bimap"] = mapped
    if settings.method == "iterative":
        endpoints["logeig"] = spd.log_iterative(mapped, lowest=lowest_share(network.pooling, settings.ridge))
    elif layers.training:
        endpoints["logeig"], endpoints["eigenvalues"] = spd.log_reeig_with_spectrum(
            mapped, epsilon=settings.epsilon, maximum=settings.maximum
        )
    else:
        endpoints["reeig"] = spd.reeig(mapped, epsilon=settings.epsilon, maximum=settings.maximum)
        endpoints["logeig"] = spd.log_reeig(mapped, epsilon=settings.epsilon, maximum=settings.maximum)
    layers.outputs["logeig"] = endpoints["logeig"]
    return spd.vectorise(endpoints["logeig"], network.vectorise)


def lowest_share(pooling: str, ridge: float) -> float:
    """The smallest eigenvalue that the iterative logarithm must resolve, as a share of the matrix's Frobenius norm.

    The ridge keeps every eigenvalue of a covariance at or above this share of its trace, hence of its norm. The norm of
    a Gaussian's matrix also contains the squared mean.
    """
    return ridge if pooling == "covariance" else max(ridge / 100, LEAST_GAUSSIAN_SHARE)


def _orthonormal_initializer(seed):
    """An initialiser for BiMap's weight, whose numbers depend on the seed alone."""

    def initialise(shape, dtype=tf.float32, partition_info=None):
        rows, columns = (int(size) for size in shape)
        rng = np.random.RandomState(seed_for(seed, BIMAP_WEIGHT))
        return tf.constant(spd.random_orthonormal(rng, rows, columns), dtype)

    return initialise
