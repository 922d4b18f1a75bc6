"""Reads `.npy` files, also damaged and hostile ones. Both interpreters use it; it needs NumPy only."""

from pathlib import Path

import numpy as np

from covpool.pipeline.artifacts import ArtifactError


def read_array(path: Path) -> np.ndarray:
    """Map a `.npy` file from the disk, read-only; pickled objects are refused.

    Args:
        path: of the file.

    Raises:
        ArtifactError: the file is missing, can't be read, or is not one array.
    """
    try:
        found = np.load(str(path), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing.") from None
    # NumPy parses the header as Python: a hostile one raises TokenError, OverflowError, RecursionError and others.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ArtifactError(f"{path} is not a NumPy array (.npy): {reason}.") from None
    if not isinstance(found, np.ndarray):
        raise ArtifactError(f"{path}: expected one array (.npy), got an archive of arrays (.npz).")
    return found


def read_face_array(path: Path, count: int) -> np.ndarray:
    """Map the faces of a split: uint8 [count, h, w, 3].

    Args:
        path: `data/faces/<split>.npy`.
        count: rows of its table.

    Raises:
        ArtifactError: also if the array does not fit the table.
    """
    try:
        faces = read_array(path)
        if faces.ndim != 4 or faces.dtype != np.uint8 or faces.shape[3] != 3 or len(faces) != count:
            raise ArtifactError(
                f"{path}: expected uint8 [{count}, h, w, 3], one face per row of {path.with_suffix('.csv').name}, got "
                f"{faces.dtype} {list(faces.shape)}."
            )
    except ArtifactError as error:
        raise ArtifactError(f"{error} Run the stage normalise again: `dvc repro normalise`.") from None
    return faces
