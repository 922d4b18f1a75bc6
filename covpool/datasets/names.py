"""Judges files by their names: picture, clutter of an operating system, or attack.

Names come from untrusted archives and buckets, so `fault` checks them before they are used in any way. It refuses more
than this file system would, because other systems give more characters a special meaning.
"""

import re
import unicodedata
from pathlib import PurePosixPath

#: File name extensions of pictures. Validation can't read some of these formats and then reports each picture.
PICTURE_SUFFIXES = frozenset(
    ".avif .bmp .gif .heic .heif .jfif .jp2 .jpe .jpeg .jpg .pgm .png .pnm .ppm .tga .tif .tiff .webp".split()
)

#: Files and folders of operating systems, besides names that begin with a dot.
CLUTTER = frozenset(("thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information"))

#: Most folders in a path; most bytes in one part of a path, and in a whole path.
DEEPEST, LONGEST_PART, LONGEST = 32, 255, 1024


def is_picture(name: str) -> bool:
    """Return whether the name has the extension of a picture."""
    return PurePosixPath(name).suffix.casefold() in PICTURE_SUFFIXES


def is_clutter(name: str) -> bool:
    """Return whether a part of the path is hidden or belongs to an operating system."""
    return any(part.startswith(".") or part.casefold() in CLUTTER for part in PurePosixPath(name).parts)


def fault(name: str) -> str:
    """Return why the path of an archive's member or of a bucket's object is refused, or '' if it is safe."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    parts = name.split("/")
    if not name or name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "its path is absolute" if name else "it has no name"
    if ".." in parts:
        return "its path leads out of the folder (..)"
    if "\\" in name or any(unicodedata.category(character) == "Cc" for character in name):
        return "its name has a backslash or a control character"
    if len(parts) > DEEPEST:
        return f"it lies more than {DEEPEST} folders deep"
    if size > LONGEST or any(len(part.encode("utf-8")) > LONGEST_PART for part in parts):
        return "its name is too long"
    return ""


def plain(name: str) -> str:
    """Return a safe path without its `.` and empty parts."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def folded(name: str) -> str:
    """Return a form that is equal for names that differ only by case or by the Unicode form of accents.

    Some file systems treat such names as one name.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
