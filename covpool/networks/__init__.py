"""The networks of CovPoolFER on TensorFlow: `build` builds one, with the `Layers` of training or of scoring."""

from covpool.networks.covpoolnet import (
    BATCH_NORM_DECAY,
    BIMAP_SIZE,
    BIMAP_WEIGHT,
    EMBEDDING_SIZE,
    IMAGE_SIZE,
    POOLED,
    SCOPES,
    build,
    lowest_share,
)
from covpool.networks.layers import Layers, keyed_dropout

__all__ = [
    "BATCH_NORM_DECAY",
    "BIMAP_SIZE",
    "BIMAP_WEIGHT",
    "EMBEDDING_SIZE",
    "IMAGE_SIZE",
    "POOLED",
    "SCOPES",
    "Layers",
    "build",
    "keyed_dropout",
    "lowest_share",
]
