"""The default data set: seven expressions on rendered faces, made on the spot from CC0 assets.

`render_dataset` writes the data set. `render_face` makes one picture with its true landmarks. See
docs/rendered-faces.md for the assets, the recipes, the licence and the limits.
"""

from covpool.rendered.assets import AssetError
from covpool.rendered.dataset import Picture, render_dataset, render_face
from covpool.rendered.expressions import CLASSES
from covpool.rendered.photograph import Photograph
from covpool.rendered.scene import View

__all__ = ["CLASSES", "AssetError", "Photograph", "Picture", "View", "render_dataset", "render_face"]
