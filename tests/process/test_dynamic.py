"""`pm = dynamic`: as many workers as the load needs, at once, and no more than that for long."""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING

from tests.harness.fcgi_client import Connection
from tests.harness.load import Load
from tests.harness.reloads import in_hand, report, wait_report
from tests.harness.waits import PATIENCE, Stopwatch

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

LIMIT = r"server reached pm\.max_children setting \(4\), consider raising it"


def add_dynamic(daemon: Daemon, most: int, start: int, least: int, top: int, **more: object) -> None:
    settings = {"pm.start_servers": start, "pm.min_spare_servers": least, "pm.max_spare_servers": top}
    daemon.add_pool("www", {"pm": "dynamic", "pm.max_children": most, **settings, **more})


def test_it_starts_with_start_servers(daemon: Daemon) -> None:
    add_dynamic(daemon, 10, 3, 1, 5)
    daemon.start()
    assert wait_report(daemon, lambda now: now.idle == 3).total == 3


def test_it_grows_at_once_to_the_need_and_keeps_its_spare(daemon: Daemon) -> None:
    add_dynamic(daemon, 16, 2, 2, 4)
    daemon.start()
    clock = Stopwatch()
    with in_hand(daemon, 12):
        daemon.gate.wait_inside(12)
        # PHP-FPM would have needed one second for each doubling.
        assert clock.fair < 2
        wait_report(daemon, lambda now: now.idle >= 2 and now.busy == 12)
        assert clock.fair < 2.5
        daemon.gate.release(12)


def test_it_grows_within_a_moment_of_each_request(daemon: Daemon) -> None:
    """One after the other, each of which takes the last idle worker: nobody waits for a second's tick."""
    add_dynamic(daemon, 12, 1, 1, 1)
    daemon.start()
    clock = Stopwatch()
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(in_hand(daemon))
            daemon.gate.wait_inside()
        assert clock.fair < 5, "ten ticks would be ten seconds"
        daemon.gate.release(10)


def test_it_shrinks_to_max_spare_all_at_once_the_least_recently_used_first(daemon: Daemon) -> None:
    add_dynamic(daemon, 8, 2, 1, 2)
    daemon.start()
    with in_hand(daemon, 8) as clients:
        left = {client.socket.fileno(): client for client in clients}
        pids = set(daemon.gate.wait_inside(8))
        daemon.gate.release(6)
        for _ in range(6):  # whose request it was that could go on, the client tells that gets an answer
            answered, _, _ = select.select(list(left), [], [], PATIENCE)
            client = left.pop(answered[0])
            pids.remove(int(client.receive().body))
            assert client.socket.recv(1) == b"", "it is idle before it closes"
        clock = Stopwatch()
        daemon.gate.release(2)
        assert {int(client.receive().body) for client in left.values()} == pids
        wait_report(daemon, lambda now: now.total == 2)
        assert clock.fair < 3.5, "six surplus workers, one a second"
    assert set(daemon.workers()) == pids, "those whose requests have ended last"


def test_the_limit_is_a_warning_once_an_episode(daemon: Daemon) -> None:
    add_dynamic(daemon, 4, 1, 1, 2)
    daemon.start()
    with in_hand(daemon, 5) as clients:
        daemon.gate.wait_inside(4)
        daemon.wait_log(LIMIT)
        daemon.gate.release(5)
        for client in clients:
            assert client.receive().status == 200
    with Load(daemon.address(), clients=8) as load:
        load.wait_answers(1500)
    assert daemon.log.read().count("server reached pm.max_children") == 1


def test_below_the_limit_there_is_no_warning(daemon: Daemon) -> None:
    add_dynamic(daemon, 16, 1, 1, 2)
    daemon.start()
    with in_hand(daemon, 8):
        daemon.gate.wait_inside(8)
        daemon.gate.release(8)
    assert "max_children" not in daemon.log.read()


def test_no_request_is_lost_while_it_shrinks_and_grows(daemon: Daemon) -> None:
    add_dynamic(daemon, 6, 1, 1, 1)
    daemon.start()
    with Load(daemon.address(), clients=2) as load:
        for _ in range(4):
            with in_hand(daemon, 4) as clients:
                daemon.gate.wait_inside(4)
                daemon.gate.release(4)
                for client in clients:
                    assert client.receive().status == 200
            load.wait_answers(20)
    assert (load.lost, load.refused) == ([], 0)


def test_idle_connections_of_a_front_server_are_no_load(daemon: Daemon) -> None:
    """Kept or just opened: who waits for a request's first byte is not busy for ever."""
    add_dynamic(daemon, 6, 1, 1, 2)
    daemon.start()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Connection(daemon.address()))
        assert daemon.get("/pid").status == 200
    assert wait_report(daemon, lambda now: now.busy == 0).total <= 6
    assert report(daemon).requests >= 1
