"""Downloads from a real S3 server on loopback (moto): objects, folders, keys from the environment, stops, changes."""

import hashlib
import os
import urllib.request
import zipfile

import pytest
from moto.server import ThreadedMotoServer

from covpool.datasets import DatasetError, buckets, fetch, remote

CONTENT = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(autouse=True)
def keys(monkeypatch, tmp_path):
    """Keys in the environment, and no others of the machine's."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "OBS_")) or name.casefold() in ("http_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    # Small blocks, so that there is a middle to stop in.
    monkeypatch.setattr(buckets, "BLOCK", 100_000)


@pytest.fixture
def bucket(server, settings):
    """An empty bucket: `bucket.put(name, data)`, and the settings for an address in it, `bucket.at(name, ...)`."""
    urllib.request.urlopen(urllib.request.Request(server + "/moto-api/reset", method="POST"))

    class Bucket:
        def __init__(self):
            self.store = buckets._store(self.at("x"))
            self.store.mkdir("faces")

        def at(self, name, kind="folder", scheme="s3", **changes):
            url = f"{scheme}://faces/{name}"
            return settings("covpool/rendered", kind, endpoint=server, url=url, **changes)

        def put(self, name, data):
            self.store.pipe("faces/" + name, data)

    return Bucket()


def get(asked, tmp_path, progress=lambda done, total: None, say=lambda text: None):
    folder = remote.folder_of(asked, tmp_path / "downloads")
    return remote.download(asked, folder, buckets.transport(asked), progress, say)


@pytest.mark.parametrize("scheme", ["s3", "obs"])
def test_an_object_is_downloaded_once_while_it_stays_the_same(bucket, tmp_path, scheme):
    bucket.put("a/set one.zip", CONTENT)
    asked, said = bucket.at("a/set%20one.zip", scheme=scheme), []
    path = get(asked, tmp_path, say=said.append)
    assert path.name == "set one.zip" and path.read_bytes() == CONTENT and "MB downloaded" in said[-1]
    assert get(asked, tmp_path, say=said.append) == path and "has not changed" in said[-1]
    bucket.put("a/set one.zip", CONTENT[::-1])
    assert get(asked, tmp_path).read_bytes() == CONTENT[::-1]


def stop_in_the_middle(asked, tmp_path):
    def interrupt(done, total):
        if done >= 400_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(asked, tmp_path, interrupt)


def test_a_stopped_download_goes_on(bucket, tmp_path):
    bucket.put("set.zip", CONTENT)
    stop_in_the_middle(bucket.at("set.zip"), tmp_path)
    seen = []
    path = get(bucket.at("set.zip"), tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT and seen[0] == (400_000, len(CONTENT))


def test_an_object_that_changed_in_between_is_never_glued(bucket, tmp_path):
    bucket.put("set.zip", CONTENT)
    stop_in_the_middle(bucket.at("set.zip"), tmp_path)
    bucket.put("set.zip", CONTENT[::-1])
    assert get(bucket.at("set.zip"), tmp_path).read_bytes() == CONTENT[::-1]


def test_an_object_that_changes_under_way_is_begun_anew(bucket, tmp_path):
    bucket.put("set.zip", CONTENT)
    changed = []

    def change(done, total):
        if done >= 400_000 and not changed:
            changed.append(bucket.put("set.zip", CONTENT[::-1]))

    said = []
    assert get(bucket.at("set.zip"), tmp_path, change, said.append).read_bytes() == CONTENT[::-1]
    assert "has changed: starting again from the beginning" in said[0]


def test_the_sum_is_checked(bucket, tmp_path):
    bucket.put("set.zip", CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert get(bucket.at("set.zip", sha256=sha256), tmp_path).read_bytes() == CONTENT
    with pytest.raises(DatasetError, match="has the SHA-256 " + sha256):
        get(bucket.at("set.zip", sha256="0" * 64), tmp_path)


def test_what_is_not_there_is_told(bucket, tmp_path, settings, server):
    with pytest.raises(DatasetError, match="s3://faces/none.zip: there is no such object or bucket"):
        get(bucket.at("none.zip"), tmp_path)
    bucket.put("folder/a.png", b"x")
    with pytest.raises(
        DatasetError, match="s3://faces/folder is not an object. If it is a folder, end the address with /"
    ):
        get(bucket.at("folder"), tmp_path)
    with pytest.raises(DatasetError, match="has no pictures"):
        fetch(bucket.at("none/"), tmp_path / "raw", downloads=tmp_path / "downloads", say=lambda text: None)


def test_a_store_that_is_not_there_is_told(tmp_path, settings, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    asked = settings("covpool/rendered", endpoint="http://127.0.0.1:9", url="s3://faces/x.zip")
    for attempt in (lambda: get(asked, tmp_path), lambda: buckets.BucketFolder(asked, tmp_path, print)):
        with pytest.raises(DatasetError, match="s3://faces/x.zip broke off 6 times .*Could not connect.*run the same"):
            attempt()


def signed_with(bucket, tmp_path, monkeypatch, scheme):
    """The key that a download signs its requests with; None where it signs nothing."""
    found = []
    inner = buckets.s3fs.S3FileSystem.info

    def info(store, *arguments, **options):
        details = inner(store, *arguments, **options)
        credentials = store.s3._request_signer._credentials
        found.append(None if store.anon else credentials and credentials.access_key)
        return details

    monkeypatch.setattr(buckets.s3fs.S3FileSystem, "info", info)
    get(bucket.at("set.zip", scheme=scheme), tmp_path)
    return found[0]


def test_keys_come_from_the_environment_and_usual_files_alone(bucket, tmp_path, monkeypatch):
    bucket.put("set.zip", CONTENT)
    assert signed_with(bucket, tmp_path, monkeypatch, "s3") == "someone"
    assert signed_with(bucket, tmp_path, monkeypatch, "obs") == "someone"
    monkeypatch.setenv("OBS_ACCESS_KEY_ID", "chinese")
    monkeypatch.setenv("OBS_SECRET_ACCESS_KEY", "hunter2")
    assert signed_with(bucket, tmp_path, monkeypatch, "obs") == "chinese"
    assert signed_with(bucket, tmp_path, monkeypatch, "s3") == "someone"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "file").write_text("[default]\naws_access_key_id = filed\naws_secret_access_key = hunter2\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "file"))
    assert signed_with(bucket, tmp_path, monkeypatch, "s3") == "filed"


def test_a_store_that_refuses_names_the_variables(bucket, tmp_path, monkeypatch):
    bucket.put("set.zip", CONTENT)
    for kind in (PermissionError("Access Denied"), buckets.botocore.exceptions.NoCredentialsError()):
        monkeypatch.setattr(buckets.s3fs.S3FileSystem, "info", lambda *_, kind=kind: (_ for _ in ()).throw(kind))
        with pytest.raises(DatasetError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/") as told:
            get(bucket.at("set.zip"), tmp_path)
        assert "hunter2" not in str(told.value) and "someone" not in str(told.value)
        with pytest.raises(DatasetError, match="OBS_ACCESS_KEY_ID and OBS_SECRET_ACCESS_KEY"):
            get(bucket.at("set.zip", scheme="obs"), tmp_path)


def put_sfew(bucket, sfew):
    for file in sorted(sfew.rglob("*.png")):
        bucket.put("sets/" + file.relative_to(sfew).as_posix(), file.read_bytes())


def test_a_folder_in_a_bucket_gives_what_a_local_one_gives(bucket, sfew, tmp_path, settings, monkeypatch):
    monkeypatch.setattr(buckets, "BATCH", 5)
    put_sfew(bucket, sfew)
    bucket.put("sets/readme.txt", b"x")
    bucket.put("sets/.DS_Store", b"x")
    said, seen, brought = [], [], []
    asked = bucket.at("sets/", "sfew_100")
    local = fetch(settings(sfew, "sfew_100"), tmp_path / "local", say=said.append)
    inner = buckets.s3fs.S3FileSystem.get

    def noted(store, names, places):
        brought.extend(names)
        inner(store, names, places)

    monkeypatch.setattr(buckets.s3fs.S3FileSystem, "get", noted)

    def interrupt(done, total):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(asked, tmp_path / "raw", downloads=tmp_path / "downloads", progress=interrupt, say=said.append)
    assert len(brought) == 10
    rows = fetch(
        asked,
        tmp_path / "raw",
        downloads=tmp_path / "downloads",
        downloaded=lambda *now: seen.append(now),
        say=said.append,
    )
    assert rows == local and "'readme.txt'" in said[-1] and "'.DS_Store'" in said[-2]
    # No object came twice, and none that is no picture.
    assert len(brought) == len(set(brought)) == 28
    total = sum(file.stat().st_size for file in sfew.rglob("*.png"))
    assert seen[-1] == (total, total)
    # What changes is fetched again, and that alone.
    bucket.put("sets/val/Sad/Film_027.png", b"other")
    rows = fetch(asked, tmp_path / "raw", downloads=tmp_path / "downloads", say=said.append)
    assert len(brought) == 29 and (tmp_path / "raw/val/sadness/Film_027.png").read_bytes() == b"other"


@pytest.mark.parametrize(
    "name, reason",
    [
        ("../evil.png", "its path leads out of"),
        ("train//happy/a.png", "its path has empty parts"),
        ("train/Happy/A.PNG", "it differs from 'train/Happy/A.PNG' only by case"),
    ],
)
def test_hostile_names_in_a_bucket_are_refused(bucket, tmp_path, name, reason):
    bucket.put("sets/train/happy/a.png", b"x")
    bucket.put("sets/" + name, b"x")
    with pytest.raises(DatasetError, match="is refused: " + reason):
        fetch(bucket.at("sets/"), tmp_path / "raw", downloads=tmp_path / "downloads")
    assert not list(tmp_path.rglob("*.png")) and not list(tmp_path.rglob("*.PNG"))


def test_limits_hold_for_folders(bucket, tmp_path):
    bucket.put("sets/train/happy/a.png", bytes(2000))
    for limits in ({"max_file_bytes": 1000}, {"max_unpacked_bytes": 1000}):
        with pytest.raises(DatasetError, match="more (bytes )?than dataset.limits." + next(iter(limits))):
            fetch(bucket.at("sets/", limits=limits), tmp_path / "raw", downloads=tmp_path / "downloads")


def test_an_archive_from_a_bucket_lands_in_raw(bucket, sfew, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(sfew.rglob("*.png")):
            archive.write(file, file.relative_to(sfew))
    bucket.put("set.zip", (tmp_path / "set.zip").read_bytes())
    rows = fetch(bucket.at("set.zip", "sfew_100", scheme="obs"), tmp_path / "raw", downloads=tmp_path / "downloads")
    assert len(rows) == 28
