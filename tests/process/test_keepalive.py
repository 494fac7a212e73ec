"""FCGI_KEEP_CONN: connections that a front server keeps serve many requests and get in nobody's way."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.fcgi_client import ABORT, GET_VALUES, Connection, get_parameters, record, request_bytes
from tests.harness.load import Load
from tests.harness.waits import Stopwatch, watching

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


def test_many_requests_on_one_connection(served: Daemon) -> None:
    with Connection(served.address()) as client:
        for number in range(20):
            answer = client.request(get_parameters("/echo", f"n={number}"))
            assert answer.status == 200
            assert f"n={number}".encode() in answer.body


def test_requests_that_are_sent_ahead(served: Daemon) -> None:
    with Connection(served.address()) as client:
        client.send(b"".join(request_bytes(get_parameters("/pid"), keep=True, request_id=1) for _ in range(3)))
        data = b""
        while data.count(b"\r\n\r\n") < 3:
            data += client.socket.recv(65536)
        assert client.request(get_parameters("/pid")).status == 200


def test_a_request_in_pieces_on_a_kept_connection(served: Daemon) -> None:
    with Connection(served.address()) as client:
        assert client.request(get_parameters("/pid")).status == 200
        whole = request_bytes(get_parameters("/hash", REQUEST_METHOD="POST", CONTENT_LENGTH="5"), b"12345", keep=True)
        for at in range(len(whole)):
            client.send(whole[at : at + 1])
        assert b'"length": 5' in client.receive().body
        assert client.request(get_parameters("/pid")).status == 200


def test_kept_connections_do_not_starve_new_ones(served: Daemon) -> None:
    """One worker, several kept connections, and clients that come anew: everybody is served."""
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(Connection(served.address())) for _ in range(5)]
        for _ in range(3):
            for client in kept:
                assert client.request(get_parameters("/pid")).status == 200
            clock = Stopwatch()
            assert served.get("/pid").status == 200
            assert clock.fair < 5


def test_busy_kept_connections_do_not_starve_new_ones(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.start()
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(_used(daemon)) for _ in range(4)]
        load = stack.enter_context(Load(daemon.address(), clients=2))
        for _ in range(50):
            for client in kept:
                assert client.request(get_parameters("/pid")).status == 200
        load.wait_answers(10)
    assert load.lost == []


def test_new_connections_find_the_idle_worker(daemon: Daemon) -> None:
    """A worker that keeps a connection makes the listener non-blocking for all; the others must still wait well."""
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.start()
    daemon.engage(2)
    with Connection(daemon.address()) as kept:
        holder = int(kept.request(get_parameters("/pid")).body)
        kept.send(request_bytes(get_parameters("/block"), keep=True))
        assert daemon.gate.wait_inside() == [holder]
        others = {int(daemon.get("/pid").body) for _ in range(20)}
        assert len(others) == 1
        assert holder not in others
        daemon.gate.release()
        assert kept.receive().status == 200


def test_idle_ones_are_closed_in_time(daemon: Daemon) -> None:
    daemon.add_pool("www", {"keepalive_timeout": "1s"})
    daemon.start()
    clock = Stopwatch()
    with _used(daemon) as idle, _used(daemon) as busy:
        while not select.select([idle.socket], [], [], 0)[0]:
            assert busy.request(get_parameters("/pid")).status == 200
        assert idle.socket.recv(1) == b""
        assert clock.elapsed > 1
        assert clock.fair < 5
        assert busy.request(get_parameters("/pid")).status == 200


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
def test_they_do_not_hold_up_a_stop(daemon: Daemon, number: signal.Signals) -> None:
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.start()
    daemon.expect(r"SIGTERM.*in the middle of")  # an answer may be out, and its request not yet off the scoreboard
    with _used(daemon) as one, _used(daemon):
        clock = Stopwatch()
        assert daemon.stop(number) == 0
        assert clock.fair < 5, "it does not wait for process_control_timeout"
        assert one.socket.recv(1) == b""


def test_a_silent_peer_beside_a_kept_connection(daemon: Daemon) -> None:
    daemon.add_pool("www", {"request_head_timeout": "0.3s"})
    daemon.start()
    with _used(daemon) as kept, Connection(daemon.address()) as silent:
        clock = Stopwatch()
        assert kept.request(get_parameters("/pid")).status == 200
        assert clock.fair < 5
        assert silent.socket.recv(1) == b"", "it was given up"
        assert kept.request(get_parameters("/pid")).status == 200


def test_idle_ones_are_closed_in_time_under_load(daemon: Daemon) -> None:
    """Somebody always has something to say: that is no reason to keep the silent ones."""
    daemon.add_pool("www", {"keepalive_timeout": "0.3s"})
    daemon.start()
    with _used(daemon) as idle, Load(daemon.address(), clients=3) as load:
        assert idle.socket.recv(1) == b""
        load.wait_answers(10)
    assert load.lost == []


def test_who_sends_ahead_does_not_starve_the_others(daemon: Daemon) -> None:
    """One worker, and requests for minutes in its hands: the others are served between them."""
    daemon.add_pool()
    daemon.start()
    with _used(daemon) as greedy, _used(daemon) as kept:
        one = request_bytes(get_parameters("/block"), keep=True)
        greedy.send(one * 3)
        daemon.gate.wait_inside()
        kept.send(request_bytes(get_parameters("/pid"), keep=True))
        with Connection(daemon.address()) as new:
            new.send(request_bytes(get_parameters("/pid")))
            daemon.gate.release()
            # The next request of the greedy one blocks the worker; before that it is the others' turn.
            assert kept.receive().status == 200
            assert new.receive().status == 200
            daemon.gate.release(2)


def test_a_kept_connection_whose_buffer_is_full(daemon: Daemon) -> None:
    """It reads none of its answers, and each of them alone would fit: the worker gives it up, and does not hang."""
    daemon.add_pool("www", {"request_send_timeout": "0.3s"})
    daemon.start()
    with _used(daemon) as deaf:
        deaf.socket.settimeout(1)
        ahead = request_bytes(get_parameters("/echo"), keep=True)
        with contextlib.suppress(OSError):
            deaf.send(ahead * 2000)
        clock = Stopwatch()
        assert daemon.get("/pid").status == 200
        assert clock.fair < 5


@pytest.mark.parametrize(("kind", "request_id"), [(ABORT, 1), (GET_VALUES, 0)])
def test_a_record_that_begins_no_request_holds_nobody_up(daemon: Daemon, kind: int, request_id: int) -> None:
    """It may come late, as an ABORT of what has just been answered: the worker waits for everybody, as before."""
    daemon.add_pool("www", {"request_head_timeout": "20s"})
    daemon.start()
    with _used(daemon) as kept:
        clock = Stopwatch()
        kept.send(record(kind, request_id))
        if kind == GET_VALUES:
            assert kept.socket.recv(65536)
        for _ in range(3):
            assert daemon.get("/pid").status == 200
        assert clock.fair < 5
        assert kept.request(get_parameters("/pid")).status == 200


def test_a_worker_that_leaves_answers_what_was_asked_before(daemon: Daemon) -> None:
    """A front server repeats no POST, so whoever has sent one by then gets an answer."""
    daemon.add_pool()
    daemon.start()
    with _used(daemon) as one, _used(daemon) as idle, Connection(daemon.address()) as busy:
        busy.send(request_bytes(get_parameters("/block")))
        (pid,) = daemon.gate.wait_inside()
        one.send(request_bytes(get_parameters("/pid", REQUEST_METHOD="POST"), keep=True) * 2)
        with watching(pid) as (worker,):
            os.kill(pid, signal.SIGQUIT)
            daemon.gate.release()
            assert busy.receive().status == 200
            assert one.receive().body == str(pid).encode()
            worker.wait_exit()
        assert one.socket.recv(1) == b"", "one answer each, and no more"
        assert idle.socket.recv(1) == b""


def _used(daemon: Daemon) -> Connection:
    """A connection that has had a request, as every one that a front server keeps."""
    client = Connection(daemon.address())
    assert client.request(get_parameters("/pid")).status == 200
    return client
