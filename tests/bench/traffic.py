"""2,048 different requests of about 1 kB each, as FastCGI and as HTTP.

Runs in: the benchmark.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.

The same bytes for ever would make any cache in a server look splendid.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

COUNT = 2048
WORDS = ("alpha", "beta", "gamma", "delta", "north", "south", "shop", "list", "item", "page", "view", "edit", "user")
BROWSERS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:{n}.0) Gecko/20100101 Firefox/{n}.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{n}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{n}.1 Safari",
)


@dataclass(frozen=True)
class Request:
    """One GET of one visitor."""

    path: str
    query: str
    address: str
    port: int
    headers: dict[str, str]

    @property
    def uri(self) -> str:
        return f"{self.path}?{self.query}"


def requests() -> Iterator[Request]:
    """The same 2,048 in every run."""
    dice = random.Random(1)
    for _ in range(COUNT):
        path = "/" + "/".join(dice.choices(WORDS, k=3)) + f"/{dice.randrange(10**6)}"
        headers = {
            "Host": "www.example.org",
            "User-Agent": dice.choice(BROWSERS).format(n=dice.randrange(90, 140)),
            "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "Accept-Language": "en-US,en;q=0.5",
            "Accept-Encoding": "gzip, deflate, br",
            "Referer": f"https://www.example.org/{dice.choice(WORDS)}/{dice.randrange(10**6)}",
            "Cookie": f"session={dice.getrandbits(128):032x}; theme={dice.choice(WORDS)}",
        }
        address = f"192.0.2.{dice.randrange(1, 255)}"
        yield Request(
            path, f"q={dice.choice(WORDS)}&n={dice.randrange(10**4)}", address, dice.randrange(1024, 65535), headers
        )


def http(request: Request, *, close: bool) -> bytes:
    """As a client sends it, or (close) as a front server does that wants one answer only."""
    headers = {**request.headers, "Connection": "close"} if close else request.headers
    lines = [f"GET {request.uri} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def fastcgi(request: Request, script: str = "") -> bytes:
    """As nginx sends it with its stock fastcgi_params: all records in one piece, PARAMS padded to eight bytes."""
    params = {
        "QUERY_STRING": request.query,
        "REQUEST_METHOD": "GET",
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "SCRIPT_NAME": request.path,
        "REQUEST_URI": request.uri,
        "DOCUMENT_URI": request.path,
        "DOCUMENT_ROOT": "/var/www/html",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "nginx/1.22.1",
        "REMOTE_ADDR": request.address,
        "REMOTE_PORT": str(request.port),
        "SERVER_ADDR": "192.0.2.1",
        "SERVER_PORT": "80",
        "SERVER_NAME": "www.example.org",
        "REDIRECT_STATUS": "200",
    }
    if script:
        params["SCRIPT_FILENAME"] = script
    params.update(("HTTP_" + name.upper().replace("-", "_"), value) for name, value in request.headers.items())
    body = b"".join(_pair(name.encode(), value.encode()) for name, value in params.items())
    return _record(1, b"\0\1\0\0\0\0\0\0") + _record(4, body) + _record(4, b"") + _record(5, b"")


def _pair(name: bytes, value: bytes) -> bytes:
    return _length(name) + _length(value) + name + value


def _length(text: bytes) -> bytes:
    return bytes([len(text)]) if len(text) < 128 else struct.pack(">I", len(text) | 1 << 31)


def _record(kind: int, body: bytes) -> bytes:
    padding = -len(body) % 8
    return struct.pack(">BBHHBx", 1, kind, 1, len(body), padding) + body + bytes(padding)
