"""Visitors who notice everything: what each request got, and when.

Runs in: the benchmark.   Not pure: sockets, threads and the clock.
Fails by: nothing. Whatever goes wrong with a request is what became of it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.load import ANSWER
from tests.harness.fcgi_client import answer, output

PATIENCE = 5.0  # seconds; a front server waits longer, a visitor does not
REFUSED = "refused"
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Target:
    """Where to send which bytes."""

    path: Path
    request: bytes
    protocol: str


@dataclass(frozen=True)
class Visit:
    """One request. `outcome` is the generation of the code that answered, or what went wrong."""

    began: float
    took: float
    outcome: str


def stay(seconds: float) -> None:
    """Let time pass: the visitors are what happens meanwhile, and no event says that nothing went wrong."""
    time.sleep(max(0.0, seconds))


def visit(target: Target) -> Visit:
    """Send one request and wait for its end."""
    began = time.perf_counter()
    outcome = _outcome(target)
    return Visit(began, time.perf_counter() - began, outcome)


def _outcome(target: Target) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(str(target.path))
        except OSError:  # no such file, nobody listens, or the listen queue is full
            return REFUSED
        try:
            connection.sendall(target.request)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        except TimeoutError:
            return NO_ANSWER
        except OSError:
            return "reset"
    return read_outcome(received, target.protocol)


def read_outcome(received: bytes, protocol: str) -> str:
    """The word before the greeting of the benchmark's applications, or what is wrong with the answer."""
    if not received:
        return "closed"
    try:
        status, body = _read_http(received) if protocol == "http" else _read_fastcgi(received)
    except (AssertionError, ValueError):
        return "broken answer"
    if not status:
        return "empty answer"
    if status != 200:
        return f"status {status}"
    word, _, rest = body.partition(b": ")
    return word.decode() if rest == ANSWER else "broken answer"


def _read_http(received: bytes) -> tuple[int, bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def _read_fastcgi(received: bytes) -> tuple[int, bytes]:
    found = answer(output(received))
    return found.status, found.body


class Crowd:
    """Visits in the background. Leaving the block ends them and waits for those under way."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.visits: list[Visit] = []
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._end.set()
        for thread in list(self._threads):
            thread.join()

    def since(self, began: float, ended: float = float("inf")) -> list[Visit]:
        """Those that began in this time and are over."""
        return [each for each in list(self.visits) if began <= each.began < ended]

    def _begin(self) -> None:
        raise NotImplementedError

    def _start(self, run: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()


class Steady(Crowd):
    """So many visitors a second, whatever became of those before: a server that hangs makes nobody stay at home."""

    def __init__(self, target: Target, per_second: float) -> None:
        super().__init__(target)
        self._interval = 1 / per_second

    def _begin(self) -> None:
        self._start(self._send)

    def settle(self) -> None:
        """Wait for all who are under way now."""
        for thread in self._threads[1:]:  # the first one sends the others
            thread.join()

    def _send(self) -> None:
        due = time.perf_counter()
        while not self._end.wait(max(0.0, due - time.perf_counter())):
            due += self._interval
            self._start(lambda: self.visits.append(visit(self.target)))


class Clients(Crowd):
    """So many clients, each with one request after the other: the load of ab and wrk."""

    def __init__(self, target: Target, count: int) -> None:
        super().__init__(target)
        self._count = count

    def _begin(self) -> None:
        for _ in range(self._count):
            self._start(self._repeat)

    def _repeat(self) -> None:
        while not self._end.is_set():
            made = visit(self.target)
            self.visits.append(made)
            if made.outcome == REFUSED:
                self._end.wait(0.01)  # or refusals, which take no time, would count a thousandfold
