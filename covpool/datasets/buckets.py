"""Files and folders in buckets of S3 and of what speaks its language: Huawei's OBS, MinIO and others.

An object is downloaded through `remote`; a folder, an address that ends in `/`, is a source like any other, whose
wanted files come in batches and are kept until the next run.

Keys come from where the tools of the store look for them: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_SESSION_TOKEN, or ~/.aws; for obs:// first OBS_ACCESS_KEY_ID, OBS_SECRET_ACCESS_KEY and OBS_SECURITY_TOKEN.
Without any, buckets that everybody may read still work.
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

from covpool.datasets import names
from covpool.datasets.archives import Untrusted
from covpool.datasets.errors import DatasetError
from covpool.datasets.remote import Answer, Broken, Changed, folder_of, locked, patiently, shown
from covpool.pipeline import artifacts

#: Bytes a request, and files under way at once in a folder.
BLOCK, BATCH = 8 << 20, 64
TIMEOUT = 60

#: What is raised where the line breaks or the store is busy.
LINE = (
    OSError,
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.ClientError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
)


def transport(settings):
    """What `remote.download` gets the object at `settings.url` with."""
    place = _place(settings.url)

    @contextlib.contextmanager
    def ask(have: int, validator: str, complete: bool) -> Iterator[Answer]:
        store = _store(settings)
        with _own_errors(settings):
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


def _blocks(settings, store, place: str, start: int, tag: str) -> Iterator[bytes]:
    """The object from a byte on; each request insists on the version that was begun."""
    with _own_errors(settings):
        stream = store.open(place, "rb", block_size=BLOCK, cache_type="none")
        if stream.details["ETag"] != tag:
            raise Changed("it is another object now")
        stream.seek(start)
    while True:
        with _own_errors(settings):
            block = stream.read(BLOCK)
        if not block:
            return
        yield block


class BucketFolder(Untrusted):
    """The objects below an address that ends in `/`. Their names are judged like those in an archive."""

    def __init__(self, settings, downloads: Path, progress) -> None:
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
        with _own_errors(self._settings):
            return self._store.find(place, detail=True)

    def close(self) -> None:
        """Nothing is open."""

    def read_files(self, wanted: Collection[str]) -> Iterator[tuple[str, BinaryIO]]:
        """Yield name and stream of each wanted file."""
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
        """Where the file is kept: by name and version, so that another version is another file."""
        return self._folder / artifacts.content_hash([name, self._objects[name]["ETag"]])

    def _bring(self, places: dict[str, Path]) -> None:
        """Download those of a batch that are not there; a file has its name only when it is whole."""
        coming = {name: path.with_suffix(".partial") for name, path in places.items() if not path.exists()}
        if coming:
            with _own_errors(self._settings):
                self._store.get([self._objects[name]["name"] for name in coming], list(map(str, coming.values())))
        for name, path in coming.items():
            if path.stat().st_size != self._sizes[name]:
                raise DatasetError(f"{self.path}{name} has changed while it was downloaded: run the same command again")
            path.replace(places[name])


def _place(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc + unquote(parts.path)


def _store(settings) -> s3fs.S3FileSystem:
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
            # OBS wants the bucket in the host's name; other stores of one's own mostly want it in the path.
            "s3": {"addressing_style": "virtual" if obs else "auto"},
            # Sums that only Amazon's own store knows.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
        skip_instance_cache=True,
        use_listings_cache=False,
    )


@contextlib.contextmanager
def _own_errors(settings) -> Iterator[None]:
    """Turn the store's errors into ours."""
    url = shown(settings.url)
    try:
        yield
    except FileExpired:
        raise Changed("it is another object now") from None
    except FileNotFoundError:
        raise DatasetError(f"{url}: there is no such object or bucket") from None
    except (PermissionError, botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError):
        variables = (
            "OBS_ACCESS_KEY_ID and OBS_SECRET_ACCESS_KEY"
            if url.startswith("obs")
            else ("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials")
        )
        raise DatasetError(f"{url} may not be read with the keys that were found. Set {variables}") from None
    except LINE as error:
        raise Broken(re.sub(r"\w+://\S+", "...", f"{type(error).__name__}: {error}")[:200]) from None
