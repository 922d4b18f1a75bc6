"""What a request may be: where it comes from, how large it is, and how many there may be at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

#: Bytes of a request, pictures in it, and pixels of one.
MAX_BYTES, MAX_PICTURES, MAX_PIXELS = 32_000_000, 16, 40_000_000
#: Within which a request must have arrived.
MAX_SECONDS = 30
#: Requests that wait or are being answered, and the bytes of all of them together.
MAX_WAITING, MAX_WAITING_BYTES = 64, 256_000_000
#: Requests per second of one client over time, and how many it may send at once.
RATE, BURST = 40.0, 240.0
#: The names of this computer for itself. A page elsewhere could let its own name lead here (DNS rebinding).
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Refused(Exception):
    """A request that is not answered; `status` is HTTP's, and the message says why and what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_origin(method: str, headers: Mapping[str, str]) -> None:
    """Refuse what another page sends, and what was addressed to another name.

    A link on another page that opens this page is no harm: nothing is sent but the wish to see it.

    Args:
        method: of the request.
        headers: of the request, with names in lower case.

    Raises:
        Refused: status 403.
    """
    host = headers.get("host", "")
    if _host_name(host) not in LOOPBACK:
        raise Refused(403, f"expected a request to one of {', '.join(LOOPBACK)}, got one to {host!r}")
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        raise Refused(403, f"expected a request from the page itself, got one from {origin!r}")
    opened = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if not opened and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refused(403, "expected a request from the page itself, got one from another page")


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


class Gate:
    """Counts the requests that are under way. One event loop uses it, so it needs no lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests = 0
        self._bytes = 0
        self._clients: dict[str, tuple[float, float]] = {}

    def check_rate(self, client: str) -> None:
        """Take one request from a client's allowance, which fills up with time; Refused (429) if it is empty."""
        now = self._clock()
        left, since = self._clients.get(client, (BURST, now))
        left = min(BURST, left + (now - since) * RATE)
        if left < 1:
            raise Refused(429, f"more than {RATE:g} requests per second: wait a moment")
        self._clients[client] = (left - 1, now)
        if len(self._clients) > 1000:
            self._clients = {name: each for name, each in self._clients.items() if now - each[1] < BURST / RATE}

    def enter(self) -> None:
        """A request begins; Refused (503) if too many are under way."""
        if self._requests >= MAX_WAITING:
            raise Refused(503, f"{MAX_WAITING} requests are waiting: try again in a moment")
        self._requests += 1

    def take(self, size: int) -> None:
        """Bytes of a request arrived; Refused (503) if all requests under way have too many together."""
        if self._bytes + size > MAX_WAITING_BYTES:
            raise Refused(503, "the requests that are waiting have too many bytes: try again in a moment")
        self._bytes += size

    def leave(self, size: int) -> None:
        """A request ended that had `size` bytes."""
        self._requests -= 1
        self._bytes -= size
