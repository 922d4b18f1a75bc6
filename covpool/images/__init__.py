"""Reads untrusted pictures as arrays. All parts of the project open pictures through this package.

`opener` reads single pictures, `animations` the frames of animated files.
"""

from covpool.images.opener import Picture, PictureError, decode_picture, read_picture

__all__ = ["Picture", "PictureError", "decode_picture", "read_picture"]
