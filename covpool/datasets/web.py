"""Reads files from http and https servers: a transport of `remote`.

A download is resumed with Range and If-Range (RFC 9110, sections 13 and 14): a server that has another version by then
sends the whole file. The bytes are taken as they are stored, without decompression. User names and passwords come from
~/.netrc, proxies and certificates from the environment, as in the library requests.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import requests
import urllib3

from covpool.datasets.errors import DatasetError
from covpool.datasets.remote import Answer, Broken, Changed, Result, Transport, shown

#: Seconds to connect, and between two bytes.
TIMEOUT = (15, 60)
#: Seconds until the headers of an answer must have arrived, including redirects.
ANSWER_SECONDS = 120
#: Most bytes that are read at once.
BLOCK = 1 << 18
#: Errors of a broken connection.
LINE = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
#: Errors that no retry will change.
FINAL = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.TooManyRedirects,
)
#: Status codes that are worth a retry.
BUSY = (408, 425, 429, 500, 502, 503, 504)
REFUSED = {
    401: "a user name and a password are needed: put them into ~/.netrc",
    403: "access is denied, or a user name and a password are needed (~/.netrc)",
    404: "there is no such file",
    410: "the file is gone",
}


def transport(url: str) -> Transport:
    """Return the function with which `remote.download` reads the file at `url`."""

    @contextlib.contextmanager
    def ask(have: int, validator: str, complete: bool) -> Iterator[Answer]:
        headers = {"Accept-Encoding": "identity"}
        if complete and validator:
            headers["If-None-Match" if _is_tag(validator) else "If-Modified-Since"] = validator
        elif have:
            headers["Range"] = f"bytes={have}-"
            # Without a validator, the SHA-256 of the whole file shows whether the parts fit together.
            headers.update({"If-Range": validator} if validator else {})
        with requests.Session() as session:
            try:
                response = _within(
                    ANSWER_SECONDS, lambda: session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
                )
            except FINAL as error:
                raise DatasetError(
                    f"{shown(url)} redirects to an address that is not http or https, or redirects too often "
                    f"({type(error).__name__}): refused"
                ) from None
            except LINE as error:
                raise Broken(_reason(error)) from None
            with response:
                _check_redirect(url, response)
                if response.status_code == 416 and validator and not _validator(response):
                    # The file has as many bytes as the local one. Ask again: is it the same version?
                    with ask(have, validator, True) as answer:
                        yield replace(answer, blocks=iter(())) if answer.blocks is None else answer
                    return
                yield _answer(url, response, have, validator, complete)

    return ask


def _within(seconds: float, action: Callable[[], Result]) -> Result:
    """Call `action`; raise OSError if it takes longer, because a server may send its headers byte by byte."""
    done = []

    def run() -> None:
        try:
            done.append((action(), None))
        except BaseException as error:
            done.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise OSError(f"no answer within {seconds} seconds")
    result, error = done[0]
    if error is not None:
        raise error
    return result


def _answer(url: str, response: requests.Response, have: int, asked: str, complete: bool) -> Answer:
    """Interpret a response to a request for the bytes after the first `have`, whose validator is `asked`."""
    status, validator = response.status_code, _validator(response)
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    blocks = _blocks(response)
    if status == 304 and not complete:
        raise DatasetError(f"{shown(url)}: the server answers 304 (not changed), but there is no complete local file")
    if status in (206, 416) and asked and not _continues(response, asked):
        # Some servers ignore If-Range.
        raise Changed("the server has another version of it")
    if status == 304:
        return Answer(have, have, validator, None)
    if status == 200:
        return Answer(0, total, validator, blocks)
    if status == 206:
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not given or int(given[1]) != have:
            raise DatasetError(
                f"{shown(url)}: the server was asked for the bytes from {have} on and sent "
                f"{response.headers.get('Content-Range', 'no Content-Range')!r}"
            )
        return Answer(have, int(given[2]) if given[2] != "*" else None, validator, blocks)
    if status == 416 and response.headers.get("Content-Range") == f"bytes */{have}":
        return Answer(have, have, validator, iter(()))
    if status == 416:
        raise Changed(f"the file has no longer {have} bytes")
    if status in BUSY:
        raise Broken(f"the server answers {status} {response.reason}")
    raise DatasetError(f"{shown(url)}: the server answers {status}: {REFUSED.get(status, response.reason)}")


def _validator(response: requests.Response) -> str:
    """Return the strong ETag, or else the date of the last change, or '' if there is neither."""
    tag = response.headers.get("ETag", "")
    return tag if _is_tag(tag) else response.headers.get("Last-Modified", "")


def _continues(response: requests.Response, asked: str) -> bool:
    """Return whether a part belongs to the version `asked`.

    An answer 206 has the ETag if there is one, but need not repeat the date (RFC 9110, section 15.3.7).
    """
    given = response.headers.get("ETag" if _is_tag(asked) else "Last-Modified")
    if given is None:
        return not _is_tag(asked)
    return given == asked


def _is_tag(validator: str) -> bool:
    """Return whether the validator is a strong ETag."""
    return validator.startswith('"')


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """Yield the bytes of a response as stored on the server."""
    try:
        # read1 returns what has arrived without waiting for more, so that a slow server is detected.
        yield from iter(lambda: response.raw.read1(BLOCK, decode_content=False), b"")
    except LINE as error:
        raise Broken(_reason(error)) from None


def _check_redirect(url: str, response: requests.Response) -> None:
    """Raise DatasetError if an https address redirects to an unencrypted one."""
    if urlsplit(url).scheme == "https" and any(
        urlsplit(each.url).scheme != "https" for each in (*response.history, response)
    ):
        raise DatasetError(f"{shown(url)} redirects to {shown(response.url)}, which is not encrypted: refused")


def _reason(error: Exception) -> str:
    """Return the message of an error without the address, which may hold secrets."""
    text = re.sub(r"(with url: |\w+://)\S+", "...", str(error))
    return f"{type(error).__name__}: {text[:200]}"
