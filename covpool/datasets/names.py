"""What the name of a file tells: whether it is a picture, clutter of an operating system, or an attack.

Names come from archives and buckets that anybody may have made, so `fault` judges them before anything is done with
them. It refuses more than a file system would, because what is a folder here may be a command or a path elsewhere.
"""

import re
import unicodedata
from pathlib import PurePosixPath

#: Endings of pictures, also of those that validation will not be able to read: it then says so, picture by picture.
PICTURE_SUFFIXES = frozenset(
    ".avif .bmp .gif .heic .heif .jfif .jp2 .jpe .jpeg .jpg .pgm .png .pnm .ppm .tga .tif .tiff .webp".split()
)

#: What file managers and version control leave behind, besides names that begin with a dot.
CLUTTER = frozenset(("thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information"))

DEEPEST, LONGEST_PART, LONGEST = 32, 255, 1024


def is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.casefold() in PICTURE_SUFFIXES


def is_clutter(name: str) -> bool:
    """Whether a part of the path is hidden or belongs to the system."""
    return any(part.startswith(".") or part.casefold() in CLUTTER for part in PurePosixPath(name).parts)


def fault(name: str) -> str:
    """Why the path of an archive's member or of a bucket's object is refused, or '' if it is safe."""
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
    """A safe path without its `.` and empty parts."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def folded(name: str) -> str:
    """Equal for names that a file system which knows no case, or one form of accents, takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
