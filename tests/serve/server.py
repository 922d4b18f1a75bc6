"""A `covpool serve` in a process of its own, and requests to it."""

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys

from tests.project import ROOT


@contextlib.contextmanager
def running(model, *options):
    """The process and the port of a server on a free port."""
    command = [sys.executable, "-m", "covpool", "serve", "--model", str(model), "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            assert found, line + process.stderr.read()
            yield process, int(found[1])
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def request(port, method, path, body=None, headers=None):
    """(status, headers, body) of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def post(port, content, path="/predict", kind="image/png", **headers):
    """(status, JSON) of a picture that is the body of a request."""
    status, _, body = request(port, "POST", path, content, {"Content-Type": kind, **headers})
    return status, json.loads(body)


def form(pictures):
    """(body, type) of a form with [(name, content)] as files named `pictures`."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="pictures"; filename="{name}"\r\n'.encode()
        + b"Content-Type: application/octet-stream\r\n\r\n"
        + content
        + b"\r\n"
        for name, content in pictures
    ]
    return b"".join(parts) + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def post_form(port, pictures, path="/predict"):
    """(status, JSON) of pictures that a form holds."""
    body, kind = form(pictures)
    return post(port, body, path, kind)
