"""A web server on loopback that breaks off, changes its file and ignores headers, and what downloads from it."""

import contextlib
import hashlib
import os
import re
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from covpool.datasets import remote, web

CONTENT = os.urandom(300_000)
OTHER = os.urandom(280_000)


class Server(ThreadingHTTPServer):
    """Serves `content` under any path; the attributes say how well."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients that leave early are part of the tests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.validators, self.ranges, self.lengths = CONTENT, ("ETag",), True, True
        self.breaks = []  # after how many bytes each coming answer breaks off
        self.statuses = []  # what coming requests are answered instead
        self.redirect = ""
        self.ignores_if_range = False
        self.headers_pause = 0.0  # seconds before each answer
        self.pause = 0.0  # seconds before each byte
        self.length = None  # what is said instead of the true Content-Length
        self.tags = None  # an iterator of ETags, one an answer
        self.requests = []
        self.sent = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/pub/faces.zip"

    def fields(self):
        """ETag and Last-Modified of the content, by the names in `validators`."""
        digest = next(self.tags) if self.tags else hashlib.md5(self.content).hexdigest()
        every = {
            "ETag": f'"{digest}"',
            "Weak": f'W/"{digest}"',
            "Last-Modified": formatdate(int(digest[:7], 16), usegmt=True),
        }
        return {("ETag" if name == "Weak" else name): every[name] for name in self.validators}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        if server.statuses:
            return self.answer(server.statuses.pop(0))
        if server.redirect:
            return self.answer(302, {"Location": server.redirect})
        fields, content = server.fields(), server.content
        if set(fields.values()) & {self.headers["If-None-Match"], self.headers["If-Modified-Since"]} - {None}:
            return self.answer(304, fields)
        start = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        current = (
            server.ignores_if_range or self.headers["If-Range"] is None or self.headers["If-Range"] in fields.values()
        )
        if start and server.ranges and current:
            first = int(start[1])
            if first >= len(content):
                return self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
            fields["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            return self.answer(206, fields, content[first:])
        return self.answer(200, fields, content)

    def answer(self, status, fields=None, body=b""):
        time.sleep(self.server.headers_pause)
        self.send_response(status)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        if self.server.lengths and status != 304:
            self.send_header("Content-Length", str(self.server.length or len(body)))
        elif status in (200, 206):
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        end = self.server.breaks.pop(0) if self.server.breaks else None
        if body and not self.server.lengths:
            body = (
                b"".join(
                    b"%x\r\n%s\r\n" % (len(part), part)
                    for part in (body[at : at + 9999] for at in range(0, len(body), 9999))
                )
                + b"0\r\n\r\n"
            )
        # Before they are sent: whoever has got them may look at once.
        self.server.sent += len(body[:end])
        with contextlib.suppress(OSError):
            if self.server.pause:
                for at in range(len(body[:end])):
                    self.wfile.write(body[at : at + 1])
                    time.sleep(self.server.pause)
            else:
                self.wfile.write(body[:end])
        if end is not None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.flush()
                self.connection.shutdown(2)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(web, "TIMEOUT", (5, 5))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def get(server, tmp_path, settings):
    """Downloads from the server: the path of what came, what was said, what the progress was told."""

    def run(url=None, **changes):
        asked = settings("covpool/rendered", url=url or server.url, **changes)
        run.said, run.progress = [], []
        folder = remote.folder_of(asked, tmp_path / "downloads")
        return remote.download(
            asked, folder, web.transport(asked.url), lambda *now: run.progress.append(now), run.said.append
        )

    run.folder = lambda: remote.folder_of(settings("covpool/rendered", url=server.url), tmp_path / "downloads")
    return run
