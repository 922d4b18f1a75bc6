"""Reads `.npy` files safely, even if they are damaged or malicious. Both interpreters use it; it needs NumPy only."""

from pathlib import Path

import numpy as np

from covpool.pipeline.artifacts import ArtifactError


def read_array(path: Path) -> np.ndarray:
    """Map a `.npy` file from the disk. Pickled objects are rejected.

    Args:
        path: The file.

    Returns:
        The array, read-only.

    Raises:
        ArtifactError: The file is missing, can't be read, or is not one array.
    """
    try:
        found = np.load(str(path), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing.") from None
    # NumPy parses the header as Python. A malicious header raises TokenError, OverflowError, RecursionError and others.
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise ArtifactError(f"{path} is not a NumPy array (.npy): {reason}.") from None
    if not isinstance(found, np.ndarray):
        raise ArtifactError(f"{path}: expected one array (.npy), got an archive of arrays (.npz).")
    return found


def read_face_array(path: Path, count: int) -> np.ndarray:
    """Map the faces of a split from the disk.

    Args:
        path: `data/faces/<split>.npy`.
        count: The number of rows of the split's table.

    Returns:
        The faces, uint8 [count, height, width, 3], read-only.

    Raises:
        ArtifactError: The file is missing, can't be read, or does not fit the table.
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
