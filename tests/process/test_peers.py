"""Peers that are silent, slow, broken or hostile cannot hold a worker, and cannot end one."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.harness import fcgi_client
from tests.harness.daemon import fresh_daemon
from tests.harness.fcgi_client import Connection, begin, get_parameters, pairs, record, request_bytes, stream
from tests.harness.sockets import listening, port_of
from tests.harness.waits import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon
    from tests.harness.stage import Stage

LIMIT = 0.3
TICK = 1.0  # the master looks once a second at those who have not said a word
LINGER = 2.0
SLACK = 1.5  # less than LINGER


@pytest.fixture(scope="module")
def site(stage: Stage) -> Iterator[Daemon]:
    """One worker with short time limits, on TCP and on a unix socket."""
    limits = {f"request_{what}_timeout": f"{LIMIT}s" for what in ("head", "body", "send")}
    with fresh_daemon(stage) as daemon, listening() as sock:
        daemon.add_pool("tcp", {"listen": f"127.0.0.1:{port_of(sock)}", **limits})
        daemon.add_pool("unix", {**limits})
        daemon.start(sockets=[sock])
        yield daemon


@pytest.fixture(params=["tcp", "unix"])
def pool(request: pytest.FixtureRequest, site: Daemon) -> Iterator[str]:
    """The one worker is the same before and after."""
    name: str = request.param
    before = site.get("/pid", pool=name).body
    yield name
    assert site.get("/pid", pool=name).body == before


def time_until_free(site: Daemon, pool: str) -> float:
    """How long it takes until somebody else is served."""
    clock = Stopwatch()
    assert site.get("/pid", pool=pool).status == 200
    return clock.fair


POST = get_parameters("/hash", REQUEST_METHOD="POST", CONTENT_LENGTH="10")
HEAD = begin() + stream(fcgi_client.PARAMS, 1, pairs(get_parameters("/pid")))
STAYING = {
    "says nothing": b"",
    "half a record's head": begin()[:5],
    "BEGIN_REQUEST and no more": begin(),
    "half of the parameters": begin() + record(fcgi_client.PARAMS, 1, pairs(get_parameters("/pid"))),
    "a record that is announced and does not come": HEAD[:-8] + struct.pack(">BBHHBB", 1, 4, 1, 60000, 0, 0),
    "half a body": begin() + stream(fcgi_client.PARAMS, 1, pairs(POST)) + record(fcgi_client.STDIN, 1, b"12345"),
    "no body at all": begin() + stream(fcgi_client.PARAMS, 1, pairs(POST)),
}


@pytest.mark.parametrize("said", STAYING.values(), ids=STAYING.keys())
def test_a_peer_that_stays_and_says_no_more(site: Daemon, pool: str, said: bytes) -> None:
    site.expect(r'"POST /hash"|was silent in the middle')
    with Connection(site.address(pool)) as silent:
        silent.send(said)
        # The worker reads on for some seconds behind an answer, for the sake of a peer that still sends.
        assert time_until_free(site, pool) < LIMIT + max(TICK, LINGER) + SLACK


def test_many_silent_peers_at_once(site: Daemon, pool: str) -> None:
    """They cost one time limit each and not a tick each: the worker sees whether there is something to read."""
    silent = [Connection(site.address(pool)) for _ in range(3)]
    try:
        assert time_until_free(site, pool) < 3 * (LIMIT + TICK) + SLACK
    finally:
        for connection in silent:
            connection.socket.close()


def test_a_silent_peer_is_given_up_once(daemon: Daemon) -> None:
    """The master says so at every turn until it sees that the worker is idle; that must not hit the worker twice."""
    daemon.set_global({"log_level": "debug"})
    daemon.add_pool("www", {"request_head_timeout": "0.1s", "pm.max_children": 4})
    daemon.start()
    workers = daemon.engage(4)
    for _ in range(5):
        silent = [Connection(daemon.address()) for _ in range(4)]
        for connection in silent:
            assert connection.socket.recv(1) == b"", "it is closed"
            connection.socket.close()
    assert sorted(daemon.engage(4)) == sorted(workers)
    daemon.wait_log("the peer sent no request in 0.1 seconds")


def test_a_body_shorter_than_its_content_length(site: Daemon, pool: str) -> None:
    site.expect(r'"POST /hash"')
    with Connection(site.address(pool)) as client:
        client.send(request_bytes(POST, b"12345"))
        answer = client.receive()
    assert answer.status in (400, 0)
    assert b"sha256" not in answer.body, "the application must not take it for the whole"


def test_a_peer_that_does_not_read_the_answer(site: Daemon, pool: str) -> None:
    with Connection(site.address(pool)) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send(request_bytes(get_parameters("/stream", "mb=50")))
        assert time_until_free(site, pool) < LIMIT + SLACK + 1


def test_a_peer_that_does_not_read_many_small_blocks(site: Daemon, pool: str) -> None:
    """The kernel charges a unix socket 768 bytes for a block of one: it is full long before the bytes fill it."""
    with Connection(site.address(pool)) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send(request_bytes(get_parameters("/length", "given=15000&said=15000")))
        assert time_until_free(site, pool) < LIMIT + SLACK + 1


def test_a_peer_that_does_not_close(site: Daemon, pool: str) -> None:
    with Connection(site.address(pool)) as client:
        assert client.request(get_parameters("/pid"), keep=False).status == 200
        assert time_until_free(site, pool) < SLACK


def test_a_peer_that_does_not_stop_sending(site: Daemon, pool: str) -> None:
    """A body that nobody wants: it is read for some time, for the peer's sake, and not for ever."""
    parameters = get_parameters("/pid", REQUEST_METHOD="POST", CONTENT_LENGTH=str(1 << 30))
    with Connection(site.address(pool)) as client:
        client.send(begin() + stream(fcgi_client.PARAMS, 1, pairs(parameters)))
        client.send(record(fcgi_client.STDIN, 1, b"x" * 60000) * 20)
        assert client.receive().status == 200, "the answer arrives all the same"
        assert time_until_free(site, pool) < LINGER + SLACK + 1


def test_peers_that_come_and_go(site: Daemon, pool: str) -> None:
    for said in (b"", begin(), HEAD, request_bytes(get_parameters("/stream", "mb=1"))):
        for _ in range(3):
            with Connection(site.address(pool)) as client:
                client.send(said)
                if pool == "tcp":  # close with a reset
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert time_until_free(site, pool) < SLACK


GARBAGE = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(200),
    "zeros": bytes(64),
    "another version": record(fcgi_client.BEGIN, 1, bytes(8), version=9),
    "a pair longer than its record": begin() + record(fcgi_client.PARAMS, 1, b"\x7f\x7fabc") + record(4, 1),
}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_logged_with_the_peers_address(site: Daemon, pool: str, said: bytes) -> None:
    start = site.log_end()
    with Connection(site.address(pool)) as client:
        client.send(said)
        who = f"peer process {os.getpid()} of uid {os.getuid()}"
        if pool == "tcp":
            who = f"peer 127.0.0.1:{client.socket.getsockname()[1]}"
        site.wait_log(rf"WARNING: \[pool {pool}\] child \d+ {who}: .*; connection closed", start=start)
        assert client.socket.recv(100) == b"", "and it is closed"
    assert time_until_free(site, pool) < SLACK


def test_what_is_not_served(site: Daemon, pool: str) -> None:
    with Connection(site.address(pool)) as client:
        client.send(begin(role=2))
        data = client.socket.recv(100)
    (ended,), _ = fcgi_client.records(data)
    assert ended.kind == fcgi_client.END
    assert ended.content[4] == 3, "FCGI_UNKNOWN_ROLE"
    with Connection(site.address(pool)) as client:
        client.send(record(fcgi_client.GET_VALUES, 0, pairs({"FCGI_MAX_CONNS": "", "FCGI_MPXS_CONNS": ""})))
        (values,), _ = fcgi_client.records(client.socket.recv(200))
    assert values.kind == fcgi_client.GET_VALUES_RESULT
