"""What may be asked, and what is answered: the same for both protocols.

Runs in: monitor.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pyfpm.status.headers import PLAIN

LARGEST_HEAD = 16 * 1024


class Question(NamedTuple):
    """One request. `paths` is where it may have wanted to go: over FastCGI there is more than one opinion.

    `is_direct`: over HTTP, so that paths of our own have a meaning; behind a front server it may be any.
    """

    method: str
    paths: tuple[str, ...]
    query: str
    accept: str = ""
    is_direct: bool = False


class Answer(NamedTuple):
    """The response to one request: a page of this content type, with `headers` beside those that all pages have."""

    status: str
    body: bytes
    kind: str = PLAIN
    headers: tuple[tuple[str, str], ...] = ()


class Heard(NamedTuple):
    """What came of some bytes: something to `reply` at once, the question if it is whole, the end of it all."""

    reply: bytes = b""
    question: Question | None = None
    is_over: bool = False


class Dialect(Protocol):
    """A protocol, without I/O: one object for each connection."""

    def hear(self, data: bytes) -> Heard:
        """Take bytes from the peer. PeerError if nothing can be said to it any more."""

    def encode(self, answer: Answer, question: Question | None) -> bytes:
        """The bytes of an answer; without its body for HEAD."""


def refusal(status: str, *headers: tuple[str, str]) -> Answer:
    """An answer that says no more than its status."""
    return Answer(status, f"{status.partition(' ')[2]}.\n".encode(), headers=headers)
