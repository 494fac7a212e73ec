"""A client of HTTP that sends what it is told, over TCP or a unix socket, and reads to the end.

Runs in: tests.
Fails by: AssertionError for an answer that is no HTTP, socket.timeout for none.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, NamedTuple

from tests.harness.waits import PATIENCE

if TYPE_CHECKING:
    from tests.harness.fcgi_client import Address


class Response(NamedTuple):
    """An answer, read to the end of the connection; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def connect(address: Address) -> socket.socket:
    if isinstance(address, str):
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(PATIENCE)
        made.connect(address)
        return made
    return socket.create_connection(address, PATIENCE)


def get(address: Address, target: str = "/", method: str = "GET", **headers: str) -> Response:
    """One request; underscores in the names of headers are hyphens."""
    return ask(address, request_bytes(target, method, **headers))


def request_bytes(target: str = "/", method: str = "GET", **headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: status"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def ask(address: Address, sent: bytes) -> Response:
    with contextlib.closing(connect(address)) as connection:
        connection.sendall(sent)
        return read(connection)


def read(connection: socket.socket) -> Response:
    """The answer on a connection that the other side ends."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    head, separator, body = received.partition(b"\r\n\r\n")
    assert separator, received
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Response(int(status), headers, body)
