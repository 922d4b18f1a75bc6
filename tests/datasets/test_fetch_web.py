"""Downloads from a real server on loopback that breaks off and changes: what arrives is the file, or a clear error."""

import hashlib
import re
import threading
import zipfile

import pytest

from covpool.datasets import DatasetError, fetch, remote, web
from tests.datasets.web_server import CONTENT, OTHER, Server


def test_a_whole_file_is_used_again_while_the_server_says_it_is_the_same(server, get):
    path = get()
    assert path.name == "faces.zip" and path.read_bytes() == CONTENT
    assert get.progress[0] == (0, 300_000) and get.progress[-1] == (300_000, 300_000)
    assert re.fullmatch(r"http://127.0.0.1:\d+/pub/faces.zip: 0.3 MB downloaded, [\d.]+ MB/s", get.said[-1])
    sent = server.sent
    assert get() == path and server.sent == sent and "has not changed" in get.said[-1]
    server.content = OTHER
    assert get().read_bytes() == OTHER


@pytest.mark.parametrize("validators", [("ETag",), ("Last-Modified",), ("ETag", "Last-Modified")])
def test_breaks_are_bridged_without_sending_anything_twice(server, get, validators):
    server.validators = validators
    server.breaks = [100_000, 0, 1, 50_000]
    assert get().read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert [request.get("Range") for request in server.requests] == [
        None,
        "bytes=100000-",
        "bytes=100000-",
        "bytes=100001-",
        "bytes=150001-",
    ]
    assert all(request["If-Range"] in server.fields().values() for request in server.requests[1:])


def test_the_next_run_goes_on_where_the_last_one_stopped(server, get):
    server.breaks = [120_000] + [0] * 50
    with pytest.raises(DatasetError, match=r"broke off 6 times .*0.1 MB were downloaded: run the same command again"):
        get()
    server.breaks = []
    assert get().read_bytes() == CONTENT and server.sent == len(CONTENT)
    assert get.progress[0] == (120_000, 300_000)
    assert "0.2 MB downloaded" in get.said[-1] and "0.1 MB were there" in get.said[-1]


def test_an_interrupt_keeps_what_came(server, get, tmp_path, settings):
    asked = settings("covpool/rendered", url=server.url)

    def interrupt(done, total):
        if done > 100_000:
            raise KeyboardInterrupt

    folder = remote.folder_of(asked, tmp_path / "downloads")
    with pytest.raises(KeyboardInterrupt):
        remote.download(asked, folder, web.transport(asked.url), interrupt, lambda text: None)
    assert get().read_bytes() == CONTENT and get.progress[0][0] > 100_000


@pytest.mark.parametrize("validators", [("ETag",), ("Last-Modified",), (), ("Weak",)])
def test_a_file_that_changed_in_between_is_never_glued(server, get, validators):
    server.validators = validators
    server.breaks = [100_000] + [0] * 20
    with pytest.raises(DatasetError):
        get()
    server.content, server.breaks = OTHER, []
    assert get().read_bytes() == OTHER


def test_a_shorter_file_after_a_break_begins_anew(server, get):
    server.validators = ()
    server.breaks = [200_000] + [0] * 20
    sha256 = hashlib.sha256(CONTENT[:150_000]).hexdigest()
    with pytest.raises(DatasetError):
        get(sha256=sha256)
    server.content, server.breaks = CONTENT[:150_000], []
    # Without a validator, but with a sum, it asks for the rest: there is none, so all of it.
    assert get(sha256=sha256).read_bytes() == CONTENT[:150_000]


def test_without_a_validator_the_sum_allows_to_go_on_and_tells_a_wrong_end(server, get):
    server.validators = ()
    server.breaks = [100_000]
    assert get(sha256=hashlib.sha256(CONTENT).hexdigest()).read_bytes() == CONTENT and server.sent == len(CONTENT)
    server.content, server.breaks = OTHER, [100_000] + [0] * 20
    with pytest.raises(DatasetError, match="broke off"):
        get(revision="2", sha256=hashlib.sha256(OTHER).hexdigest())
    server.content, server.breaks = CONTENT, []
    with pytest.raises(DatasetError, match="was damaged during the download. It was deleted"):
        get(revision="2", sha256=hashlib.sha256(OTHER).hexdigest())
    server.content = OTHER
    assert get(revision="2", sha256=hashlib.sha256(OTHER).hexdigest()).read_bytes() == OTHER


def test_a_break_after_the_last_byte_needs_nothing_more(server, get, tmp_path):
    path = get()
    (path.parent / ".state.json").write_text((path.parent / ".state.json").read_text().replace("300000", "7"))
    sent = server.sent
    assert get().read_bytes() == CONTENT and server.sent == sent


@pytest.mark.parametrize("ranges, lengths", [(False, True), (True, False), (False, False)])
def test_servers_that_can_do_less(server, get, ranges, lengths):
    server.ranges, server.lengths = ranges, lengths
    server.breaks = [100_000]
    assert get().read_bytes() == CONTENT


def test_a_given_sum_needs_no_server(server, get):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    path = get(sha256=sha256)
    asked = len(server.requests)
    assert get(sha256=sha256) == path and len(server.requests) == asked and "was already downloaded" in get.said[-1]
    with pytest.raises(DatasetError, match="{}, but dataset.sha256 is {}".format(sha256, "0" * 64)):
        get(sha256="0" * 64)
    # Nothing came, so the sum may be what is wrong: a large file is not thrown away for a typing mistake.
    assert path.read_bytes() == CONTENT and get(sha256=sha256) == path


def test_another_revision_is_fetched_again(server, get):
    first = get()
    assert get(revision="2") != first and server.sent == 2 * len(CONTENT)


@pytest.mark.parametrize(
    "status, message",
    [(401, "put them into ~/.netrc"), (403, "access is denied"), (404, "there is no such file"), (418, "answers 418")],
)
def test_refusals_are_told_at_once(server, get, status, message):
    server.statuses = [status]
    with pytest.raises(DatasetError, match=message):
        get()
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, get):
    server.statuses = [503, 429, 500]
    assert get().read_bytes() == CONTENT


def test_a_server_that_is_not_there_is_an_error_without_secrets(server, get):
    server.shutdown()
    server.server_close()
    with pytest.raises(DatasetError) as caught:
        get(server.url + "?version=private")
    assert "broke off 6 times" in str(caught.value) and "private" not in str(caught.value)


def test_limits_hold_for_what_is_told_and_for_what_comes(server, get, monkeypatch, tmp_path):
    for server.lengths in (True, False):
        with pytest.raises(DatasetError, match=r"more than dataset.limits.max_archive_bytes \(100000\)"):
            get(limits={"max_archive_bytes": 100_000})
    server.lengths = True
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DatasetError, match="the download needs .* has only 0.0 GB of free space"):
        get()


def test_names_and_passwords_come_from_netrc(server, get, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    get()
    assert server.requests[-1]["Authorization"] == "Basic bWU6aHVudGVyMg=="
    assert not any("hunter2" in line for line in get.said)


def test_redirects_are_followed_but_not_out_of_encryption(server, get, monkeypatch):
    with Server() as other:
        threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        server.redirect = other.url
        assert get().read_bytes() == CONTENT and other.sent == len(CONTENT)
        answer = type("Response", (), {"history": [], "url": other.url})
        with pytest.raises(DatasetError, match="which is not encrypted: refused"):
            web._check_redirect("https://example.org/x", answer)
        other.shutdown()


def test_the_name_in_an_address_is_no_path(get, server):
    base = server.url.rsplit("/", 2)[0]
    for tail, name in [
        ("/a/%2e%2e", "download"),
        ("/x%2f..%2f..%2fevil", "evil"),
        ("/.hidden", "download"),
        ("/set%20one.tar.gz?v=2", "set one.tar.gz"),
    ]:
        path = get(base + tail)
        assert path.name == name and path.parent.parent.name == "downloads"


def test_a_data_set_from_a_server_lands_in_raw(server, sfew, tmp_path, settings):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted(sfew.rglob("*.png")):
            archive.write(file, file.relative_to(sfew))
    server.content = (tmp_path / "set.zip").read_bytes()
    server.breaks = [5000, 7000]
    said = []
    asked = settings("covpool/rendered", "sfew_100", url=server.url)
    rows = fetch(asked, tmp_path / "raw", downloads=tmp_path / "downloads", say=said.append)
    assert len(rows) == 28 and server.sent == len(server.content)
    sha256 = hashlib.sha256(server.content).hexdigest()
    assert any("has the SHA-256 " + sha256 in line for line in said)
    # A page that says "log in" instead of the data is no archive.
    server.content = b"<html>log in</html>"
    with pytest.raises(DatasetError, match="is not a folder, a zip archive or a tar archive: expected Train"):
        fetch(asked, tmp_path / "raw", downloads=tmp_path / "downloads", say=said.append)


def test_two_at_once_download_once(server, tmp_path, settings):
    asked = settings("covpool/rendered", url=server.url)
    folder, found = remote.folder_of(asked, tmp_path / "downloads"), []

    def run():
        found.append(remote.download(asked, folder, web.transport(asked.url), lambda *_: None, lambda text: None))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and server.sent == len(CONTENT) and found[0].read_bytes() == CONTENT
