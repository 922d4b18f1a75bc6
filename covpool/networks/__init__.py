"""The networks of CovPoolFER on TensorFlow: `build` makes one, `Layers` says how (training or scoring)."""

from covpool.networks.covpoolnet import BIMAP_WEIGHT, POOLED, SCOPES, build
from covpool.networks.layers import Layers

__all__ = ["BIMAP_WEIGHT", "POOLED", "SCOPES", "Layers", "build"]
