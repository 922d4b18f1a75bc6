"""The HTTP interface, asked over loopback: what it answers, and what it refuses."""

import io
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from PIL import Image

from covpool.serve.limits import BURST, MAX_BYTES, MAX_PICTURES, MAX_WAITING
from tests.project import ROOT
from tests.serve.conftest import png
from tests.serve.server import form, post, post_form, request, running


def test_the_page_loads_nothing_from_elsewhere(port):
    status, headers, page = request(port, "GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    for name in ("style.css", "page.js", "icon.svg"):
        assert name.encode() in page
        status, headers, text = request(port, "GET", "/" + name)
        assert status == 200 and "content-security-policy" in headers and text


@pytest.mark.parametrize("path", ["/../command.py", "/%2e%2e/command.py", "/page.py", "//etc/passwd"])
def test_no_other_file_is_given_away(port, path):
    assert request(port, "GET", path)[0] == 404


def test_the_model_is_described(port):
    status, _, body = request(port, "GET", "/model")
    found = json.loads(body)
    assert status == 200 and len(found["classes"]) == 7 and found["has_matrices"] is True
    assert found["columns"][0] == "source" and found["name"].endswith("/model.onnx")


def test_answers_are_the_rows_of_the_command(port, model_file, portrait, tmp_path):
    pictures = [("a.png", portrait), ("b.png", png(np.zeros([90, 90, 3], np.uint8))), ("c.png", b"no picture")]
    for name, content in pictures:
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-m", "covpool", "predict", "--model", str(model_file), "--explain"]
    subprocess.run(
        [*command, "--out", "rows.json", *(name for name, _ in pictures)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    status, found = post_form(port, pictures, "/predict?explain=true")
    assert status == 200
    # A batch of several faces may round the last digit differently.
    _assert_close(found["rows"], json.loads((tmp_path / "rows.json").read_text()))
    assert [picture["width"] for picture in found["pictures"]] == [220, 90, None]
    assert found["rows"][0]["face"] == 1 and found["rows"][1]["reason"] and found["rows"][2]["reason"]


def _assert_close(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            _assert_close(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for first, second in zip(one, other):
            _assert_close(first, second)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=2e-4)
    else:
        assert one == other


def test_a_picture_as_the_body_and_its_details(port, portrait):
    status, found = post(port, portrait, "/predict?detail=true")
    (row,) = found["rows"]
    assert status == 200 and row["source"] == "picture" and "explanation" not in row
    assert np.array(row["points"]).shape == (5, 2)
    x, y = np.array(row["points"]).T
    assert np.all((x > row["x"]) & (x < row["x"] + row["width"]) & (y > row["y"]) & (y < row["y"] + row["height"]))
    for name in ("crop", "covariance", "logarithm"):
        assert row["detail"][name].startswith("data:image/png;base64,")
    assert sum(value for name, value in row.items() if name.startswith("p_")) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("content", [b"GIF89a", b"\xff\xd8\xff\xe0" + b"\0" * 40, b"text"])
def test_a_bad_picture_is_a_row_with_its_reason(port, content):
    status, found = post(port, content)
    assert status == 200
    assert found["rows"][0]["reason"] and "face" not in found["rows"][0]


def test_too_many_pixels_are_a_reason(port):
    stream = io.BytesIO()
    Image.new("1", (9000, 9000)).save(stream, "PNG")
    status, found = post(port, stream.getvalue())
    assert status == 200 and "expected at most 40000000 pixels, got 9000x9000" in found["rows"][0]["reason"]


@pytest.mark.parametrize(
    "content, kind, status",
    [
        (b"", "image/png", 400),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"--wrong", "multipart/form-data; boundary=edge", 400),
        (b"--wrong", "multipart/form-data", 400),
        (*form([("a", b"x")] * (MAX_PICTURES + 1)), 400),
        (*form([]), 400),
    ],
)
def test_what_is_no_request_for_pictures_is_refused(port, content, kind, status):
    found, answer = post(port, content, kind=kind)
    assert found == status and answer["error"]


def test_too_many_bytes_are_refused_before_they_are_all_there(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/png\r\n"
        connection.sendall(f"{head}Content-Length: {100 * MAX_BYTES}\r\n\r\n".encode())
        try:
            for _ in range(2 * MAX_BYTES // 2**20):
                connection.sendall(bytes(2**20))
        except OSError:
            pass
        else:
            assert connection.recv(20).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "example.org"},
        {"Host": "127.0.0.1.example.org"},
        {"Host": "["},
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method, path", [("POST", "/predict"), ("GET", "/model"), ("GET", "/")])
def test_other_pages_and_names_are_refused(port, method, path, headers):
    status, answered, body = request(port, method, path, b"x" if method == "POST" else None, headers)
    assert status == 403 and json.loads(body)["error"].startswith("expected a request")
    assert "access-control-allow-origin" not in answered


def test_the_page_itself_and_a_link_to_it_are_not_refused(port, portrait):
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    assert post(port, portrait, **own)[0] == 200
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert request(port, "GET", "/", headers=followed)[0] == 200
    assert request(port, "POST", "/predict", b"x", followed)[0] == 403


def test_only_this_computer_is_listened_to(server):
    process, port = server
    places = {each.laddr for each in psutil.Process(process.pid).net_connections() if each.status == "LISTEN"}
    assert places == {("127.0.0.1", port)}


def test_too_many_requests_are_refused_and_the_server_recovers(model_file, portrait):
    with running(model_file) as (process, port):
        waiting = []
        try:
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/png\r\n"
            for _ in range(MAX_WAITING):
                connection = socket.create_connection(("127.0.0.1", port))
                connection.sendall(f"{head}Content-Length: 10\r\n\r\n".encode())
                waiting.append(connection)
            found = _until(lambda: post(port, portrait), lambda answer: answer[0] == 503)
            assert "requests are waiting" in found[1]["error"]
        finally:
            for connection in waiting:
                connection.close()
        assert _until(lambda: post(port, portrait), lambda answer: answer[0] == 200)
        # The allowance of one client, which fills up again.
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: post(port, b"")[0], range(2 * int(BURST))))
        assert 400 in statuses and 429 in statuses
        assert _until(lambda: post(port, portrait), lambda answer: answer[0] == 200)
    assert process.returncode == 0, process.stderr


def _until(ask, right, seconds=10):
    end = time.monotonic() + seconds
    while True:
        found = ask()
        if right(found) or time.monotonic() > end:
            assert right(found), found
            return found
        time.sleep(0.05)


def test_a_request_is_not_held_up_by_a_large_one_before_it(port, portrait):
    large = png(np.random.default_rng(0).integers(0, 255, [900, 1200, 3], np.uint8))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post_form, port, [("large.png", large)] * 8)
        time.sleep(0.2)
        assert post(port, portrait)[0] == 200
        assert not first.done()
        assert first.result()[0] == 200


def test_200_requests_of_8_clients_are_all_answered_in_bounded_memory(server, portrait):
    process, port = server
    post(port, portrait)
    time.sleep(3)  # the allowance of this computer fills up
    before = psutil.Process(process.pid).memory_info().rss
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: post(port, portrait), range(200)))
    assert [status for status, _ in found] == [200] * 200
    assert {len(answer["rows"]) for _, answer in found} == {1}
    assert psutil.Process(process.pid).memory_info().rss - before < 200e6


@pytest.mark.parametrize("options", [["--model", "nowhere.onnx"], ["--min-score", "7"], ["--port", "99999"]])
def test_what_can_not_be_served_is_one_sentence(model_file, options):
    command = [sys.executable, "-m", "covpool", "serve", "--model", str(model_file), *options]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert found.stderr.startswith("covpool serve: ") and len(found.stderr.splitlines()) == 1


def test_a_port_in_use_is_one_sentence(model_file, port):
    command = [sys.executable, "-m", "covpool", "serve", "--model", str(model_file), "--port", str(port)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1 and f"port {port} can't be used" in found.stderr
