"""`pm = ondemand`: nobody until somebody comes, and then as many as have come."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.load import Load
from tests.harness.reloads import in_hand, report, wait_report
from tests.harness.sockets import free_port
from tests.harness.waits import Stopwatch, watching

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon, Settings


SLOW = """
import time
import apps

def application(environ, start_response):
    time.sleep(5)  # what makes it slow
    return apps.application(environ, start_response)
"""


def add_ondemand(daemon: Daemon, most: int = 10, name: str = "www", more: Settings | None = None) -> None:
    daemon.add_pool(name, {"pm": "ondemand", "pm.max_children": most, **(more or {})})


def test_nobody_is_there_until_the_first_request(daemon: Daemon) -> None:
    add_ondemand(daemon)
    daemon.start()
    assert daemon.workers() == []
    assert daemon.family() == [daemon.template()], "warm, and ready to fork"
    assert (report(daemon).state, report(daemon).total) == ("serving", 0)
    pid = int(daemon.get("/pid").body)
    assert daemon.workers() == [pid]
    assert int(daemon.get("/pid").body) == pid, "and it is kept for the next"


def test_a_burst_gets_as_many_workers(daemon: Daemon) -> None:
    add_ondemand(daemon, 20)
    daemon.start()
    clock = Stopwatch()
    with in_hand(daemon, 20):
        pids = daemon.gate.wait_inside(20)
        assert clock.fair < 4, "twenty ticks would be twenty seconds"
        assert len(set(pids)) == 20
        daemon.gate.release(20)


def test_a_burst_beyond_the_maximum_waits_its_turn(daemon: Daemon) -> None:
    add_ondemand(daemon, 3)
    daemon.start()
    with in_hand(daemon, 7) as clients:
        daemon.gate.wait_inside(3)
        daemon.wait_log(r"server reached pm\.max_children setting \(3\)")
        assert len(daemon.workers()) == 3
        daemon.gate.release(7)
        for client in clients:
            assert client.receive().status == 200
    assert daemon.log.read().count("max_children setting") == 1


def test_a_second_visitor_while_the_first_is_served(daemon: Daemon) -> None:
    add_ondemand(daemon)
    daemon.start()
    with in_hand(daemon):
        (first,) = daemon.gate.wait_inside()
        clock = Stopwatch()
        assert int(daemon.get("/pid").body) != first
        assert clock.fair < 0.5, "not only with the next tick"
        daemon.gate.release()


def test_the_idle_leave_after_their_time(daemon: Daemon) -> None:
    add_ondemand(daemon, more={"pm.process_idle_timeout": "0.5s"})
    daemon.start()
    with in_hand(daemon, 4) as clients:
        pids = daemon.gate.wait_inside(4)
        with watching(*pids) as processes:
            clock = Stopwatch()
            daemon.gate.release(4)
            for client in clients:
                client.receive()
            for process in processes:
                process.wait_exit()
    assert clock.elapsed > 0.5
    assert clock.fair < 5
    assert daemon.get("/pid").status == 200


def test_a_connection_without_a_request_is_no_long_request(daemon: Daemon) -> None:
    """As a health check of the port makes it: the time of the request before is not counted once more."""
    daemon.write_app("slow.py", SLOW)
    add_ondemand(daemon, 1, more={"pm.process_idle_timeout": "1s", "app": "slow:application"})
    daemon.start()
    assert daemon.get("/pid").status == 200
    with watching(*daemon.workers()) as (process,):
        clock = Stopwatch()
        with Connection(daemon.address()):
            pass
        process.wait_exit()
    assert clock.fair < 5


def test_who_is_asked_all_the_time_stays(daemon: Daemon) -> None:
    add_ondemand(daemon, 1, more={"pm.process_idle_timeout": "2s"})
    daemon.start()
    with Load(daemon.address(), clients=1) as load:
        end = time.monotonic() + 4.5
        while time.monotonic() < end:
            load.wait_answers(20)
    assert len({pid for _, pid in load.answered}) == 1
    assert (load.lost, load.refused) == ([], 0)


def test_no_request_is_lost_at_the_moment_when_workers_leave(daemon: Daemon) -> None:
    add_ondemand(daemon, 4, more={"pm.process_idle_timeout": "0.001s"})
    daemon.start()
    with Load(daemon.address(), clients=2) as load:
        for _ in range(20):
            load.wait_answers(5)
            daemon.send_signal(signal.SIGCHLD)  # a turn of the loop, in which the idle are seen
    assert (load.lost, load.refused) == ([], 0)


# ── the template ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pool_that_nobody_visits_gives_up_its_template_too(daemon: Daemon) -> None:
    add_ondemand(daemon, more={"pm.process_idle_timeout": "0.2s", "pm.template_idle_timeout": "0.3s"})
    daemon.set_global({"log_level": "debug"})
    daemon.start()
    for _ in range(3):
        clock = Stopwatch()
        assert daemon.get("/pid").status == 200
        assert clock.fair < 5
        now = wait_report(daemon, lambda now: now.total == 0 and now.template_pid is None)
        assert now.state == "serving", "it answers whoever comes"
        assert daemon.family() == []
    assert "ERROR" not in daemon.log.read()


def test_a_template_that_is_given_up_is_there_for_a_burst(daemon: Daemon) -> None:
    add_ondemand(daemon, 8, more={"pm.template_idle_timeout": "0.2s"})
    daemon.start()
    wait_report(daemon, lambda now: now.template == "none")
    with in_hand(daemon, 8):
        daemon.gate.wait_inside(8)
        daemon.gate.release(8)


def test_without_its_template_and_workers_the_pool_comes_back(daemon: Daemon) -> None:
    add_ondemand(daemon)
    daemon.start()
    daemon.expect("exited on signal 9")
    daemon.expect("does not serve")
    daemon.get("/pid")
    with watching(*daemon.family()) as processes:
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
            process.wait_exit()
    assert daemon.get("/pid").status == 200


# ── the listen queue ────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_knocks_and_goes_leaves_nothing_behind(daemon: Daemon) -> None:
    add_ondemand(daemon, 4)
    daemon.start()
    for _ in range(20):
        with Connection(daemon.address()):
            pass
    with Connection(daemon.address()) as silent:
        assert daemon.get("/pid").status == 200, "somebody who connects and says nothing holds nobody up"
        silent.send(request_bytes(get_parameters("/pid")))
        assert silent.receive().status == 200


def test_over_tcp_too(daemon: Daemon) -> None:
    add_ondemand(daemon, 6, more={"listen": f"127.0.0.1:{free_port()}"})
    daemon.start()
    with in_hand(daemon, 6):
        daemon.gate.wait_inside(6)
        daemon.gate.release(6)


def test_many_pools_wake_one_by_one(daemon: Daemon) -> None:
    names = [f"site{number}" for number in range(8)]
    for name in names:
        add_ondemand(daemon, 2, name, more={"env[GATE]": None})
    daemon.start()
    assert len(daemon.family()) == len(names)
    for name in names:
        assert daemon.get("/pid", pool=name).status == 200
    assert len(daemon.family()) == 2 * len(names)
