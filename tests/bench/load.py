"""The load: requests sent to a unix socket, one connection each, four under way.

Runs in: the benchmark, alone on its CPU.   Not pure: sockets and the clock.
Fails by: RuntimeError when an answer is not the application's, TimeoutError when none comes.

No event loop: one worker answers in the order of the connections, so waiting for the oldest is enough, and a
request costs five system calls here. Whether that keeps the worker busy is measured: see Slice.busy.
"""

from __future__ import annotations

import gc
import socket
import struct
import time
from collections import deque
from itertools import cycle
from pathlib import Path

CONNECTIONS = 4
ANSWER = b"hello, world\n"
TIMEOUT = struct.pack("@ll", 10, 0)


def send(path: Path, request: bytes) -> socket.socket:
    """A connection with the request on its way."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Python's own timeout would add a poll() to each call.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEOUT)
    connection.connect(str(path))
    connection.sendall(request)
    return connection


def receive(connection: socket.socket) -> None:
    """The whole answer, until the server closes the connection."""
    # A front server knows the end by its record and closes; asking for more than comes makes it one call here.
    answer = connection.recv(65536, socket.MSG_WAITALL)
    connection.close()
    if ANSWER not in answer:
        raise RuntimeError(f"not the application's answer: {answer[:500]!r}")


def ask(path: Path, request: bytes) -> None:
    """One request, one answer."""
    receive(send(path, request))


def run(path: Path, requests: list[bytes], seconds: float) -> tuple[int, float]:
    """Requests answered, and the seconds that took."""
    gc.disable()
    following = cycle(requests)
    under_way = deque(send(path, next(following)) for _ in range(CONNECTIONS))
    began = time.perf_counter()
    ends = began + seconds
    answered = 0
    while time.perf_counter() < ends:
        for _ in range(64):
            receive(under_way.popleft())
            under_way.append(send(path, next(following)))
        answered += 64
    took = time.perf_counter() - began
    for connection in under_way:
        receive(connection)
    gc.enable()
    return answered + CONNECTIONS, took
