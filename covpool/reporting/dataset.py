"""What the data set holds, counted from the tables that validation and normalisation wrote."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from covpool.pipeline import artifacts


@dataclass(frozen=True)
class DataSet:
    """Statistics of the data set; a part whose file is missing is None.

    `splits` are those that have pictures; `pictures[class][split]` counts the usable ones; `rejected` are pairs
    `(reason, pictures)`; `shared` counts the usable ones that show the same as one of another split; `sizes` is
    `(smallest, median, largest)` of the sources as `(width, height)`, by area; `faces[split][class]` has the counts
    found, aligned, fallback and dropped; `hash` is that of the normalised faces.
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
    def aligned(self):
        """How many pictures were taken as aligned faces, without looking for one."""
        return sum(
            row.get("aligned", 0)
            for split in (self.faces or {}).values()
            for name, row in split.items()
            if name != "all"
        )


def read_dataset(root):
    """Count the data set below `root`. Raises ArtifactError where the validated manifest can't be read."""
    root = Path(root)
    rows = artifacts.read_csv(root / artifacts.VALIDATED / "manifest.csv", artifacts.VALIDATED_COLUMNS)
    good = [row for row in rows if row["status"] == "ok"]
    counts = Counter((row["class"], row["split"]) for row in good)
    splits = tuple(split for split in artifacts.SPLITS if any(key[1] == split for key in counts))
    classes = _classes(root) or tuple(sorted({row["class"] for row in good}))
    return DataSet(
        classes=classes,
        splits=splits,
        pictures={name: {split: counts[name, split] for split in splits} for name in classes},
        rejected=_rejected(rows),
        shared=_shared(good),
        sizes=_sizes(good),
        faces=_face_counts(root),
        hash=artifacts.faces_hash(root / artifacts.FACES) if (root / artifacts.FACES).is_dir() else None,
    )


def _classes(root):
    path = root / artifacts.FACES / "classes.json"
    return tuple(artifacts.read_json(path)) if path.exists() else None


def _rejected(rows):
    reasons = Counter(row["reason"] or row["status"] for row in rows if row["status"] != "ok")
    return tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _shared(rows):
    splits = {row["path"]: row["split"] for row in rows}
    return sum(splits.get(row["duplicate_of"], row["split"]) != row["split"] for row in rows)


def _sizes(rows):
    sizes = [(int(row["width"]), int(row["height"])) for row in rows]
    sizes.sort(key=lambda size: (size[0] * size[1], size))
    return (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else None


def _face_counts(root):
    path = root / artifacts.NORMALISE_COUNTS
    if not path.exists():
        return None
    content = artifacts.read_json(path)
    return {split: content[split] for split in artifacts.SPLITS if isinstance(content.get(split), dict)}


def face_totals(faces, split, classes):
    """A row a class `(class, found, fallback, dropped)` of a split of `DataSet.faces`, with their sum last."""
    keys = ("found", "fallback", "dropped")
    rows = [(name, *(faces[split].get(name, {}).get(key, 0) for key in keys)) for name in classes]
    return [*rows, ("all", *(sum(row[place] for row in rows) for place in (1, 2, 3)))]
