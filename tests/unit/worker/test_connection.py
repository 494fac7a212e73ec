"""A connection's limits: a peer that keeps talking and says nothing that counts is given up like a silent one."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pyfpm.errors import PeerGone
from pyfpm.worker import connection as module
from pyfpm.worker.connection import Connection
from tests.harness.fcgi_client import ABORT, GET_VALUES, PARAMS, begin, get_parameters, pairs, record, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

IGNORED = record(ABORT, 7) * 1000  # for a request that nobody has begun
POST = begin() + stream(PARAMS, 1, pairs(get_parameters("/", REQUEST_METHOD="POST", CONTENT_LENGTH="9")))
connection = Connection(1, 0.05, 60.0, 5.0)


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection.open(ours.fileno())
        yield theirs


@contextlib.contextmanager
def pouring(peer: socket.socket) -> Iterator[None]:
    """Meanwhile the peer sends what is ignored. Whoever listens must give it up before it has said all."""
    interrupted = False

    def pour() -> None:
        nonlocal interrupted
        try:
            for _ in range(2000):
                peer.sendall(IGNORED)
        except OSError:
            interrupted = True
        peer.shutdown(socket.SHUT_WR)

    pourer = threading.Thread(target=pour)
    pourer.start()
    try:
        yield
    finally:
        peer.shutdown(socket.SHUT_RDWR)
        pourer.join()
    assert interrupted


def test_a_head_must_come_in_time(peer: socket.socket) -> None:
    with pouring(peer), pytest.raises(PeerGone, match="sent no whole request head in time"):
        connection.read_head(begin())


@pytest.mark.parametrize("keep", [True, False])
def test_the_rest_of_a_body_that_nobody_wants_must_come_in_time(
    peer: socket.socket, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_TOTAL", 0.05)
    assert connection.read_head(POST) is not None
    with pouring(peer):
        assert connection.finish(keep) is None


@pytest.mark.usefixtures("peer")
@pytest.mark.parametrize("piece", [record(ABORT, 1), record(GET_VALUES, 0), begin(role=3, keep=True)])
def test_where_no_request_has_begun_nobody_waits_for_its_head(piece: bytes) -> None:
    assert connection.read_head(piece) is None
    assert connection.read_head(piece) is None, "the connection is still good"


def test_a_refused_request_may_end_the_connection(peer: socket.socket) -> None:
    with pytest.raises(PeerGone, match="refused"):
        connection.read_head(begin(role=3))
    assert peer.recv(100) != b""
