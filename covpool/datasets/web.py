"""Files of http and https servers, as a transport of `remote`.

A download is continued with Range and If-Range (RFC 9110, 13 and 14): a server that has another version by then sends
the whole file. What it sends is taken as it is stored, never unpacked on the way. Names and passwords come from
~/.netrc, proxies and certificates from the environment, as requests does it.
"""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import requests
import urllib3

from covpool.datasets.errors import DatasetError
from covpool.datasets.remote import Answer, Broken, Changed, shown

#: Seconds to connect, and between two bytes.
TIMEOUT = (15, 60)
#: Seconds until the headers of an answer are here, redirects included.
ANSWER_SECONDS = 120
BLOCK = 1 << 18
#: What is raised where the line breaks.
LINE = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
#: What no further try will change.
FINAL = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.TooManyRedirects,
)
#: Answers that may be others in a moment.
BUSY = (408, 425, 429, 500, 502, 503, 504)
REFUSED = {
    401: "a name and password are needed: put them into ~/.netrc",
    403: "it may not be read, or a name and password are needed (~/.netrc)",
    404: "there is no such file",
    410: "the file is gone",
}


def transport(url: str):
    """What `remote.download` gets the file at `url` with."""

    @contextlib.contextmanager
    def ask(have: int, validator: str, complete: bool) -> Iterator[Answer]:
        headers = {"Accept-Encoding": "identity"}
        if complete and validator:
            headers["If-None-Match" if _is_tag(validator) else "If-Modified-Since"] = validator
        elif have:
            headers["Range"] = f"bytes={have}-"
            # Without a validator the sum of the whole will tell whether the parts fit.
            headers.update({"If-Range": validator} if validator else {})
        with requests.Session() as session:
            try:
                response = _within(
                    ANSWER_SECONDS, lambda: session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
                )
            except FINAL as error:
                raise DatasetError(
                    f"{shown(url)} leads to an address that is not of http or https, or to no end of addresses "
                    f"({type(error).__name__}): refused"
                ) from None
            except LINE as error:
                raise Broken(_reason(error)) from None
            with response:
                _check_redirect(url, response)
                if response.status_code == 416 and validator and not _validator(response):
                    # It has as many bytes as are here; whether they are the same ones is another question.
                    with ask(have, validator, True) as answer:
                        yield replace(answer, blocks=iter(())) if answer.blocks is None else answer
                    return
                yield _answer(url, response, have, validator, complete)

    return ask


def _within(seconds: float, action):
    """The result of `action`, which is given up after some seconds: a server may send its headers byte by byte."""
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
    """What the server sends. asked: the validator of the `have` bytes that are here, which are `complete` or not."""
    status, validator = response.status_code, _validator(response)
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    blocks = _blocks(response)
    if status == 304 and not complete:
        raise DatasetError(f"{shown(url)}: the server answers 304 (not changed), but nothing was here before")
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
        raise Changed(f"there are not {have} bytes")
    if status in BUSY:
        raise Broken(f"the server answers {status} {response.reason}")
    raise DatasetError(f"{shown(url)}: the server answers {status}: {REFUSED.get(status, response.reason)}")


def _validator(response: requests.Response) -> str:
    """The strong ETag, or else the date of the last change; '' where there is neither."""
    tag = response.headers.get("ETag", "")
    return tag if _is_tag(tag) else response.headers.get("Last-Modified", "")


def _continues(response: requests.Response, asked: str) -> bool:
    """Whether a part is of the version that was asked for. An answer of 206 has the ETag, if there is one (RFC 9110,
    15.3.7), but need not repeat the date.
    """
    given = response.headers.get("ETag" if _is_tag(asked) else "Last-Modified")
    if given is None:
        return not _is_tag(asked)
    return given == asked


def _is_tag(validator: str) -> bool:
    return validator.startswith('"')


def _blocks(response: requests.Response) -> Iterator[bytes]:
    try:
        # What has come is given on at once, so that a server that drips is noticed.
        yield from iter(lambda: response.raw.read1(BLOCK, decode_content=False), b"")
    except LINE as error:
        raise Broken(_reason(error)) from None


def _check_redirect(url: str, response: requests.Response) -> None:
    if urlsplit(url).scheme == "https" and any(
        urlsplit(each.url).scheme != "https" for each in (*response.history, response)
    ):
        raise DatasetError(f"{shown(url)} leads to {shown(response.url)}, which is not encrypted: refused")


def _reason(error: Exception) -> str:
    """What an error says, without the address, which may hold secrets."""
    text = re.sub(r"(with url: |\w+://)\S+", "...", str(error))
    return f"{type(error).__name__}: {text[:200]}"
