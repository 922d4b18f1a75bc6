"""Servers that mislead: what arrives is one version of the file, or a clear error within the tries and the time."""

import hashlib
import itertools

import pytest

from covpool.datasets import DatasetError, remote, web
from tests.datasets.web_server import CONTENT, OTHER


@pytest.mark.parametrize("validators", [("ETag",), ("Last-Modified",), ("Weak", "Last-Modified")])
def test_a_part_of_another_version_is_never_glued_to_the_first(server, get, validators):
    """The server knows Range and ignores If-Range."""
    server.validators, server.ignores_if_range = validators, True
    server.breaks = [100_000] + [0] * 5
    with pytest.raises(DatasetError, match="broke off 6 times"):
        get()
    server.content = OTHER
    assert get().read_bytes() == OTHER


def test_a_version_as_long_as_the_part_is_not_taken_for_it(server, get):
    server.ignores_if_range, server.lengths = True, False
    server.breaks = [100_000 + 140] + [0] * 5
    with pytest.raises(DatasetError, match="broke off 6 times"):
        get()
    (partial,) = (path for path in get.folder().iterdir() if not path.name.startswith("."))
    server.content = OTHER[: partial.stat().st_size]
    assert get().read_bytes() == server.content


def test_tries_end_without_validator_if_each_is_cut_half_way(server, get):
    server.validators, server.breaks = (), [150_000] * 1000
    with pytest.raises(DatasetError, match="broke off 6 times"):
        get()
    assert len(server.requests) == 6


def test_tries_end_if_each_answer_has_a_new_tag(server, get):
    server.tags, server.breaks = map(str, itertools.count()), [150_000] * 1000
    with pytest.raises(DatasetError, match="broke off 6 times"):
        get()
    assert len(server.requests) <= 14


def test_tries_end_if_the_length_is_too_long(server, get):
    server.validators, server.length, server.breaks = (), 400_000, [300_000] * 1000
    with pytest.raises(DatasetError, match="broke off 6 times"):
        get()
    assert len(server.requests) == 6
    # With a tag the server is asked for the rest and says that there is none.
    server.validators, server.breaks = ("ETag",), [300_000]
    assert get(revision="2").read_bytes() == CONTENT


def test_a_server_that_drips_is_given_up(server, get, monkeypatch):
    monkeypatch.setattr(remote, "PERIOD", 0.2)
    server.pause = 0.01
    with pytest.raises(DatasetError, match=r"sent \d+ bytes in 0 s: too slow. Run the same command again to resume"):
        get()
    server.pause = 0
    assert get().read_bytes() == CONTENT and get.progress[0][0] > 0
    monkeypatch.setattr(remote, "LONGEST", 0)
    server.content = OTHER
    with pytest.raises(DatasetError, match="did not arrive completely within 0 hours: too slow"):
        get()


def test_headers_that_drip_are_given_up(server, get, monkeypatch):
    monkeypatch.setattr(web, "ANSWER_SECONDS", 0.05)
    server.headers_pause = 0.5
    with pytest.raises(DatasetError, match="broke off 6 times .*no answer within 0.05 seconds"):
        get()


def test_not_changed_is_no_answer_to_a_first_request(server, get):
    server.statuses = [304]
    with pytest.raises(DatasetError, match="304 .not changed., but there is no complete local file"):
        get()
    assert len(server.requests) == 1
    server.breaks = [1000] + [0] * 5
    with pytest.raises(DatasetError, match="broke off"):
        get()
    server.statuses = [304]
    with pytest.raises(DatasetError, match="304"):
        get()


def test_a_body_without_a_length_leaves_nothing_beyond_the_limit(server, get):
    server.lengths = False
    with pytest.raises(DatasetError, match="more than dataset.limits.max_archive_bytes"):
        get(limits={"max_archive_bytes": 100_000})
    assert sum(path.stat().st_size for path in get.folder().iterdir()) < 1000


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
def test_redirects_to_other_kinds_of_addresses_are_refused_at_once(server, get, target):
    server.redirect = target
    with pytest.raises(DatasetError, match="redirects to an address that is not http or https"):
        get()
    assert len(server.requests) == 1


def test_redirects_in_a_circle_end(server, get):
    server.redirect = server.url
    with pytest.raises(DatasetError, match="redirects too often"):
        get()
    assert len(server.requests) < 40


@pytest.mark.slow
def test_every_mixture_of_misbehaviour_ends_with_one_version_or_an_error(server, get):
    """Breaks, changes, missing validators, ignored headers, statuses: all of them together, by fixed seeds."""
    import random

    ends = {"whole": 0, "error": 0}
    versions = [CONTENT, OTHER, CONTENT[:150_000]]
    for seed in range(300):
        rng = random.Random(seed)
        server.validators = rng.choice([("ETag",), ("Last-Modified",), (), ("Weak",), ("ETag", "Last-Modified")])
        server.ranges, server.lengths = rng.random() < 0.8, rng.random() < 0.7
        server.ignores_if_range, server.requests = rng.random() < 0.5, []
        server.tags = map(str, itertools.count()) if rng.random() < 0.2 else None
        for _ in range(3):
            server.content = rng.choice(versions)
            server.breaks = [rng.choice([0, 1, 1000, 150_000, 250_000]) for _ in range(rng.randrange(9))]
            server.statuses = [rng.choice([200, 404, 416, 429, 500, 503]) for _ in range(rng.randrange(2))]
            server.statuses = [status for status in server.statuses if status != 200]
            try:
                came = get(revision=str(seed)).read_bytes()
            except DatasetError:
                ends["error"] += 1
            else:
                ends["whole"] += 1
                # Without a validator the bytes alone can't tell; then nothing is continued.
                assert hashlib.sha256(came).digest() == hashlib.sha256(server.content).digest(), seed
        assert len(server.requests) < 150
    print(f"bad servers: {ends}")
    assert min(ends.values()) > 50
