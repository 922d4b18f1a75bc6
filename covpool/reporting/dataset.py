"""What the data set holds, counted from the tables that validation and normalisation wrote."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from covpool.pipeline import artifacts


@dataclass(frozen=True)
class DataSet:
    """Statistics of the data set. A part whose file is missing is None.

    Attributes:
        classes: Names of the classes, in the order of the labels.
        splits: Names of the splits that have pictures.
        pictures: `pictures[class][split]`: how many usable pictures.
        rejected: Pairs `(reason, number of pictures)`, the most frequent first.
        shared: How many usable pictures show the same as one of another split.
        sizes: `(smallest, median, largest)` of the usable pictures as `(width, height)`, by area.
        faces: `faces[split][class]`: the counts found, aligned, fallback and dropped.
        hash: Hash of the normalised faces.
    """

    classes: tuple
    splits: tuple
    pictures: dict
    rejected: tuple
    shared: int
    sizes: tuple | None
    faces: dict | None
    hash: str | None

    @property
    def aligned(self) -> int:
        """How many pictures were taken as aligned faces, without face detection."""
        return sum(
            row.get("aligned", 0)
            for split in (self.faces or {}).values()
            for name, row in split.items()
            if name != "all"
        )


def read_dataset(root: Path | str) -> DataSet:
    """Count the data set below `root`. Raises an ArtifactError if the validated manifest can't be read."""
    root = Path(root)
    columns = list(artifacts.VALIDATED_COLUMNS)
    rows = artifacts.read_csv(root / artifacts.VALIDATED / "manifest.csv", columns)
    manifest = pd.DataFrame(rows, columns=columns, dtype=object)
    good = manifest[manifest["status"] == "ok"]
    classes = _classes(root) or tuple(sorted(good["class"].unique()))
    counts = pd.crosstab(good["class"], good["split"]).reindex(index=classes, fill_value=0)
    splits = tuple(split for split in artifacts.SPLITS if split in set(good["split"]))
    return DataSet(
        classes=classes,
        splits=splits,
        pictures={name: {split: int(counts.at[name, split]) for split in splits} for name in classes},
        rejected=_rejected(manifest[manifest["status"] != "ok"]),
        shared=_shared(good),
        sizes=_sizes(good),
        faces=_face_counts(root),
        hash=artifacts.faces_hash(root / artifacts.FACES) if (root / artifacts.FACES).is_dir() else None,
    )


def _classes(root):
    path = root / artifacts.FACES / "classes.json"
    return tuple(artifacts.read_json(path)) if path.exists() else None


def _rejected(bad):
    counts = bad["reason"].where(bad["reason"] != "", bad["status"]).value_counts()
    reasons = [(reason, int(number)) for reason, number in counts.items()]
    return tuple(sorted(reasons, key=lambda item: (-item[1], item[0])))


def _shared(good):
    other = good["duplicate_of"].map(dict(zip(good["path"], good["split"], strict=True))).fillna(good["split"])
    return int((other != good["split"]).sum())


def _sizes(good):
    sizes = good[["width", "height"]].astype(int)
    sizes = sizes.assign(area=sizes["width"] * sizes["height"]).sort_values(["area", "width", "height"])
    if sizes.empty:
        return None
    return tuple(tuple(map(int, sizes.iloc[place][["width", "height"]])) for place in (0, len(sizes) // 2, -1))


def _face_counts(root):
    path = root / artifacts.NORMALISE_COUNTS
    if not path.exists():
        return None
    content = artifacts.read_json(path)
    return {split: content[split] for split in artifacts.SPLITS if isinstance(content.get(split), dict)}


def face_totals(faces: dict, split: str, classes: tuple[str, ...]) -> list[tuple]:
    """Return the rows `(class, found, fallback, dropped)` of a split of `DataSet.faces`, and their sum as the last."""
    keys = ("found", "fallback", "dropped")
    rows = [(name, *(faces[split].get(name, {}).get(key, 0) for key in keys)) for name in classes]
    return [*rows, ("all", *(sum(row[place] for row in rows) for place in (1, 2, 3)))]
