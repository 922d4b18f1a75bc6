"""Files and folders in buckets of S3 and of compatible stores, such as Huawei's OBS and MinIO.

A single object is downloaded through `remote`. A folder (an address that ends in `/`) is a `Source`: its requested
files are downloaded in batches and kept for the next run.

Access keys are read from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or from ~/.aws. For obs://,
OBS_ACCESS_KEY_ID, OBS_SECRET_ACCESS_KEY and OBS_SECURITY_TOKEN come first. Public buckets need no keys.
"""

import asyncio
import contextlib
import itertools
import os
import re
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import aiohttp
import botocore.exceptions
import botocore.session
import s3fs
from s3fs.utils import FileExpired

from covpool.config import Dataset
from covpool.datasets import names
from covpool.datasets.archives import Untrusted
from covpool.datasets.callbacks import Progress
from covpool.datasets.errors import DatasetError
from covpool.datasets.remote import Answer, Broken, Changed, Transport, folder_of, locked, patiently, shown
from covpool.pipeline import artifacts

#: Bytes per request, and files of a folder that are downloaded at the same time.
BLOCK, BATCH = 8 << 20, 64
#: Seconds to connect, and between two bytes.
TIMEOUT = 60

#: Errors of a broken connection or a busy store.
LINE = (
    OSError,
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.ClientError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
)


def transport(settings: Dataset) -> Transport:
    """Return the function with which `remote.download` reads the object at `settings.url`.

    Args:
        settings: The section `dataset` of params.yaml.
    """
    place = _place(settings.url)

    @contextlib.contextmanager
    def ask(have: int, validator: str, complete: bool) -> Iterator[Answer]:
        store = _store(settings)
        with _translated_errors(settings):
            details = store.info(place)
        if details["type"] != "file":
            raise DatasetError(f"{shown(settings.url)} is not an object. If it is a folder, end the address with /")
        tag, size = details["ETag"], details["size"]
        if complete and tag == validator:
            yield Answer(have, size, tag, None)
        else:
            start = have if tag == validator and have <= size else 0
            yield Answer(start, size, tag, _blocks(settings, store, place, start, tag))

    return ask


def _blocks(settings: Dataset, store, place: str, start: int, tag: str) -> Iterator[bytes]:
    """Yield the object from byte `start` on; raise Changed if it no longer has the ETag `tag`."""
    with _translated_errors(settings):
        stream = store.open(place, "rb", block_size=BLOCK, cache_type="none")
        if stream.details["ETag"] != tag:
            raise Changed("the object has changed")
        stream.seek(start)
    while True:
        with _translated_errors(settings):
            block = stream.read(BLOCK)
        if not block:
            return
        yield block


class BucketFolder(Untrusted):
    """The objects below an address that ends in `/`. Their names are checked like those in an archive."""

    def __init__(self, settings: Dataset, downloads: Path, progress: Progress) -> None:
        super().__init__(shown(settings.url), settings.limits)
        self._settings, self._progress = settings, progress
        self._folder = folder_of(settings, downloads)
        self._store, place = _store(settings), _place(settings.url)
        found = patiently(settings.url, lambda: self._find(place))
        below = place.rstrip("/") + "/"
        self._objects = {name[len(below) :]: facts for name, facts in found.items() if not name.endswith("/")}
        for name in self._objects:
            if names.fault(name) or names.plain(name) != name:
                raise self._refuse(name, names.fault(name) or "its path has empty parts or dots")
        self._list((name, facts["size"]) for name, facts in sorted(self._objects.items()))

    def _find(self, place: str) -> dict[str, dict]:
        """Return the properties of all objects below a place, by their names."""
        with _translated_errors(self._settings):
            return self._store.find(place, detail=True)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def read_files(self, wanted: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
        """Yield name and stream of each requested file, sorted by name."""
        waiting, done = iter(sorted(wanted)), 0
        total = sum(self._sizes[name] for name in wanted)
        with locked(self._folder):
            for batch in iter(lambda: list(itertools.islice(waiting, BATCH)), []):
                places = {name: self._kept(name) for name in batch}
                patiently(self._settings.url, partial(self._bring, places))
                done += sum(self._sizes[name] for name in batch)
                self._progress(done, total)
                for name, path in places.items():
                    with open(path, "rb") as stream:
                        yield name, stream

    def _kept(self, name: str) -> Path:
        """Return the path of the local copy. It depends on name and version, so that versions are never mixed."""
        return self._folder / artifacts.content_hash([name, self._objects[name]["ETag"]])

    def _bring(self, places: dict[str, Path]) -> None:
        """Download the missing files of a batch; a file gets its final name only when it is complete."""
        coming = {name: path.with_suffix(".partial") for name, path in places.items() if not path.exists()}
        if coming:
            with _translated_errors(self._settings):
                self._store.get([self._objects[name]["name"] for name in coming], list(map(str, coming.values())))
        for name, path in coming.items():
            if path.stat().st_size != self._sizes[name]:
                raise DatasetError(f"{self.path}{name} changed while it was downloaded: run the same command again")
            path.replace(places[name])


def _place(url: str) -> str:
    """Return bucket and key of an address."""
    parts = urlsplit(url)
    return parts.netloc + unquote(parts.path)


def _store(settings: Dataset) -> s3fs.S3FileSystem:
    """Connect to the store, with the keys that are set."""
    obs = settings.url.startswith("obs://")
    keys = {}
    if obs and os.environ.get("OBS_ACCESS_KEY_ID"):
        keys = {
            "key": os.environ["OBS_ACCESS_KEY_ID"],
            "secret": os.environ.get("OBS_SECRET_ACCESS_KEY", ""),
            "token": os.environ.get("OBS_SECURITY_TOKEN") or None,
        }
    region = re.fullmatch(r"obs\.([a-z0-9-]+)\.myhuaweicloud\.\w+", urlsplit(settings.endpoint).hostname or "")
    return s3fs.S3FileSystem(
        **keys,
        anon=not keys and botocore.session.Session().get_credentials() is None,
        endpoint_url=settings.endpoint or None,
        client_kwargs={"region_name": region[1]} if region else {},
        config_kwargs={
            "connect_timeout": TIMEOUT,
            "read_timeout": TIMEOUT,
            # OBS needs the bucket in the host name; most other self-hosted stores need it in the path.
            "s3": {"addressing_style": "virtual" if obs else "auto"},
            # Other stores than Amazon's do not know these checksums.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
        skip_instance_cache=True,
        use_listings_cache=False,
    )


@contextlib.contextmanager
def _translated_errors(settings: Dataset) -> Iterator[None]:
    """Convert errors of the store into DatasetError, Broken or Changed."""
    url = shown(settings.url)
    try:
        yield
    except FileExpired:
        raise Changed("the object has changed") from None
    except FileNotFoundError:
        raise DatasetError(f"{url}: there is no such object or bucket") from None
    except (PermissionError, botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
        variables = (
            "OBS_ACCESS_KEY_ID and OBS_SECRET_ACCESS_KEY"
            if url.startswith("obs")
            else ("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials")
        )
        raise DatasetError(f"{url} can not be read with the keys that were found. Set {variables}") from None
    except LINE as error:
        raise Broken(re.sub(r"\w+://\S+", "...", f"{type(error).__name__}: {error}")[:200]) from None
