"""Brings a data set into the pipeline's layout, `<split>/<class>/<file>`, and lists it in a manifest.

The splits and classes get their canonical names (`covpool.config.vocabulary`), so that later stages never see another
order of labels. Pictures are copied byte for byte and never opened here. The pictures of FER2013, which are numbers in
a table, become PNGs.
"""

import contextlib
import hashlib
import shutil
from pathlib import Path
from typing import BinaryIO

from covpool.config import Dataset, vocabulary
from covpool.datasets.callbacks import Progress, Say
from covpool.datasets.errors import DatasetError
from covpool.datasets.layouts import pictures_of
from covpool.datasets.local_source import missing_source
from covpool.datasets.remote import check_sum, download, folder_of
from covpool.datasets.sources import Source, open_source
from covpool.pipeline import artifacts

BLOCK = 1 << 20


def fetch(
    settings: Dataset,
    target: Path,
    *,
    downloads: Path = Path(".covpool/downloads"),
    progress: Progress = lambda done, total: None,
    downloaded: Progress = lambda done, total: None,
    say: Say = print,
) -> list[dict[str, str]]:
    """Write pictures by split and class, and `manifest.csv`, into `target`.

    Args:
        settings: The section `dataset` of params.yaml.
        target: A folder. It is replaced if it exists, and deleted if the fetch fails.
        downloads: A folder for downloaded files, see `remote`.
        progress: Called with the number of fetched pictures and of all pictures.
        downloaded: Called with the bytes of a download that have arrived and all its bytes.
        say: Called with a line of text on each thing that was skipped or decided.

    Returns:
        The rows of the manifest (`artifacts.MANIFEST_COLUMNS`), sorted by path.

    Raises:
        DatasetError: The source is missing, hostile or not laid out as its kind says.
    """
    target = Path(target)
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    try:
        if settings.kind == "rendered":
            rows = _rendered(settings, target, progress)
        else:
            with contextlib.closing(_open(settings, downloads, downloaded, say)) as source:
                rows = _copied(source, settings, target, progress, say)
        rows.sort(key=lambda row: row["path"])
        artifacts.write_csv(target / "manifest.csv", artifacts.MANIFEST_COLUMNS, rows)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return rows


def _open(settings: Dataset, downloads: Path, downloaded: Progress, say: Say) -> Source:
    """Open the source that the settings name; download it first if it is remote."""
    if not settings.url:
        absent = missing_source(settings)
        if absent:
            raise DatasetError(absent)
        check_sum(Path(settings.source), settings.sha256, say)
        return open_source(Path(settings.source), settings.limits)
    # The modules that talk to servers are slow to import and needed for remote sources only.
    if settings.url.startswith("http"):
        from covpool.datasets import web

        transport = web.transport(settings.url)
    else:
        from covpool.datasets import buckets

        if settings.url.endswith("/"):
            return buckets.BucketFolder(settings, downloads, downloaded)
        transport = buckets.transport(settings)
    path = download(settings, folder_of(settings, downloads), transport, downloaded, say)
    if not settings.sha256:
        check_sum(path, "", say)
    return open_source(path, settings.limits)


def _rendered(settings: Dataset, target: Path, progress: Progress) -> list[dict[str, str]]:
    """Render the pictures of the kind `rendered`; return the rows of the manifest."""
    # The renderer is slow to import and needed for this kind only.
    from covpool import rendered

    options = settings.rendered
    labels = {vocabulary.class_named(name, rendered.CLASSES): name for name in settings.classes}
    try:
        pictures = rendered.render_dataset(
            target,
            train=options.train,
            val=options.val,
            test=options.test,
            pictures=options.pictures,
            image_size=options.image_size,
            seed=options.seed,
            classes=tuple(labels),
            progress=progress,
        )
    except rendered.AssetError as error:
        raise DatasetError(str(error)) from error
    for folder in sorted(target.glob("*/*")):
        if folder.name != labels[folder.name]:
            folder.rename(folder.with_name(labels[folder.name]))
    rows = []
    for picture in pictures:
        label = labels[picture.label]
        path = f"{picture.split}/{label}/{Path(picture.path).name}"
        rows.append(
            {
                "path": path,
                "split": picture.split,
                "class": label,
                "subject": str(picture.identity),
                "source": "rendered",
                "sha256": artifacts.sha256_file(target / path),
            }
        )
    return rows


def _copied(source: Source, settings: Dataset, target: Path, progress: Progress, say: Say) -> list[dict[str, str]]:
    """Copy the pictures of a source; return the rows of the manifest."""
    rows = []
    total, pictures = pictures_of(source, settings, say)
    for place, stream in pictures:
        rows.append(
            {
                "path": place.path,
                "split": place.split,
                "class": place.label,
                "subject": place.subject,
                "source": place.source,
                "sha256": _copy(stream, target / place.path),
            }
        )
        progress(len(rows), total)
    return rows


def _copy(stream: BinaryIO, path: Path) -> str:
    """Write the stream to a new file; return the SHA-256 of its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open(path, "xb") as copy:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()
