"""Many visitors who come one after the other, whether or not those before them have been served.

Runs in: tests.
Fails by: WaitTimeout when somebody is not answered; OSError when nobody listens.
"""

from __future__ import annotations

import selectors
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.harness.fcgi_client import answer, get_parameters, output, request_bytes
from tests.harness.waits import PATIENCE, Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.harness.fcgi_client import Address


class Visit(NamedTuple):
    """How one fared. `came` is the moment before it connected, seconds since 1970; status 0 for no answer."""

    number: int
    came: float
    status: int
    head: str
    body: bytes


class Speech(NamedTuple):
    """What a visitor says, by its number, and how it reads the answer: (status, head, body)."""

    say: Callable[[int], bytes]
    read: Callable[[bytes], tuple[int, str, bytes]]


def fastcgi(path: str) -> Speech:
    def read(data: bytes) -> tuple[int, str, bytes]:
        found = answer(output(data))
        whole = found.ended is not None
        return found.status if whole else 0, "\n".join(f"{name}: {value}" for name, value in found.headers), found.body

    return Speech(lambda number: request_bytes(get_parameters(path, f"n={number}")), read)


def http(path: str, header: str = "") -> Speech:
    def read(data: bytes) -> tuple[int, str, bytes]:
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head[9:12] or 0), head.decode().lower().replace("\r\n", "\n"), body

    return Speech(lambda number: f"GET {path}?n={number} HTTP/1.0\r\n{header}\r\n".encode(), read)


def come(
    address: Address,
    speech: Speech,
    count: int,
    every: float,
    meanwhile: Mapping[int, Callable[[], object]] | None = None,
) -> list[Visit]:
    """Let `count` of them come, one `every` so many seconds; how each fared, in the order of their coming.

    `meanwhile` has what is to be done before the visitor of a number comes.
    """
    visits: list[Visit] = []
    said: dict[socket.socket, bytearray] = {}
    numbers: dict[socket.socket, tuple[int, float]] = {}
    deadline = Deadline(PATIENCE + count * every, f"the answers to {count} visitors")
    with selectors.DefaultSelector() as selector:
        begun = time.monotonic()
        for number in range(count):
            if meanwhile is not None and number in meanwhile:
                meanwhile[number]()
            visitor = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            numbers[visitor], said[visitor] = (number, time.time()), bytearray()
            visitor.connect(address)
            visitor.sendall(speech.say(number))
            selector.register(visitor, selectors.EVENT_READ)
            while (left := begun + (number + 1) * every - time.monotonic()) > 0:
                _listen(selector, left, said, numbers, speech, visits)
        while said:
            _listen(selector, deadline.left(), said, numbers, speech, visits)
    return sorted(visits)


def _listen(
    selector: selectors.BaseSelector,
    seconds: float,
    said: dict[socket.socket, bytearray],
    numbers: dict[socket.socket, tuple[int, float]],
    speech: Speech,
    visits: list[Visit],
) -> None:
    for key, _ in selector.select(seconds):
        visitor = key.fileobj
        assert isinstance(visitor, socket.socket)
        try:
            piece = visitor.recv(1 << 16)
        except ConnectionResetError:
            piece = b""
        said[visitor] += piece
        if not piece:
            selector.unregister(visitor)
            (number, came), (status, head, body) = numbers[visitor], speech.read(bytes(said.pop(visitor)))
            visits.append(Visit(number, came, status, head, body))
            visitor.close()
