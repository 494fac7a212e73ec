"""Processes are killed in the middle of load: what is lost is what was in hand, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.family import title_of
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes
from tests.harness.load import Load
from tests.harness.sockets import free_port
from tests.harness.waits import wait_exit, watching

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon

KILLED = r"child \d+ exited on signal 9 \(SIGKILL\) after \d+\.\d{6} seconds from start"


def test_a_killed_worker_costs_its_own_request_and_is_replaced(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 3})
    daemon.start()
    daemon.engage(3)
    daemon.expect(rf"WARNING: \[pool www\] {KILLED}")
    kills, victims = 3, set[int]()
    with Load(daemon.address()) as load:
        for _ in range(kills):
            # One that has served, but none of the victims: an answer of theirs may come out late.
            victim = next(pid for _, body in reversed(load.answered) if (pid := int(body)) not in victims)
            victims.add(victim)
            start = daemon.log_end()
            os.kill(victim, signal.SIGKILL)
            daemon.wait_log(rf"child {victim} exited on signal 9", start=start)
            daemon.wait_log(r"NOTICE: \[pool www\] child \d+ started", start=start)
            load.wait_answers(20)
    assert len(load.lost) <= kills, load.lost
    assert load.refused == 0
    daemon.engage(3)


def test_a_request_in_hand_of_a_killed_worker_is_the_only_one_that_is_lost(daemon: Daemon) -> None:
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.start()
    with Connection(daemon.address()) as first, Connection(daemon.address()) as second:
        first.send(request_bytes(get_parameters("/block")))
        (victim,) = daemon.gate.wait_inside()
        second.send(request_bytes(get_parameters("/block")))
        daemon.gate.wait_inside()
        daemon.expect(KILLED)
        os.kill(victim, signal.SIGKILL)
        assert first.receive().ended is None, "the client can tell that there is no answer"
        daemon.gate.release()
        assert second.receive().status == 200


def test_a_segfault_is_named(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start()
    before = int(daemon.get("/pid").body)
    assert daemon.get("/kill", f"signal={signal.SIGSEGV.value}").ended is None
    words = rf"WARNING: \[pool www\] child {before} exited on signal 11 \(SIGSEGV( - core dumped)?\) after"
    daemon.wait_log(words)
    assert int(daemon.get("/pid").body) != before


def test_an_exit_code_is_named(daemon: Daemon) -> None:
    daemon.add_pool()
    daemon.start()
    before = int(daemon.get("/pid").body)
    assert daemon.get("/exit", "code=7").ended is None
    daemon.wait_log(rf"WARNING: \[pool www\] child {before} exited with code 7 after \d+\.\d+ seconds from start")
    daemon.get("/pid")
    assert daemon.get("/exit", "code=0").ended is None
    daemon.wait_log(r"NOTICE: \[pool www\] child \d+ exited with code 0 after")


def test_workers_serve_on_without_their_template_and_get_another(daemon: Daemon) -> None:
    daemon.set_global({"log_level": "debug"})
    daemon.add_pool("www", {"pm.max_children": 2})
    daemon.start()
    workers, template = sorted(daemon.engage(2)), daemon.template()
    with Load(daemon.address()) as load:
        start = daemon.log_end()
        os.kill(template, signal.SIGKILL)
        daemon.wait_log(rf"template {template} exited on signal 9 \(SIGKILL\)", start=start)
        new = int(daemon.wait_log(r"template (\d+) started", start=start)[1])
        load.wait_answers(50)
    assert load.lost == []
    assert load.refused == 0
    assert sorted(daemon.workers()) == workers
    assert new != template
    # And the new one does what a template is for.
    victim = workers[0]
    daemon.expect(KILLED)
    start = daemon.log_end()
    os.kill(victim, signal.SIGKILL)
    daemon.wait_log(r"NOTICE: .*\[pool www\] child \d+ started", start=start)
    daemon.engage(2)
    assert daemon.template() == new


def test_after_the_masters_death_nobody_is_left(daemon: Daemon) -> None:
    daemon.set_global({"process_control_timeout": "60s"})  # nobody waits for that
    daemon.add_pool("www", {"pm.max_children": 3})
    daemon.add_pool("shop")
    daemon.start()
    daemon.engage(3)
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(watching(*daemon.family()))
        load = stack.enter_context(Load(daemon.address()))
        longest = stack.enter_context(Connection(daemon.address("shop")))
        longest.send(request_bytes(get_parameters("/block")))
        (busy,) = daemon.gate.wait_inside()
        assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
        for process in processes:
            if process.pid != busy:
                process.wait_exit()
        daemon.gate.release()
        assert longest.receive().status == 200, "the request in hand was finished"
        for process in processes:
            process.wait_exit()
        load.stop()
    # Those that a worker had taken were answered. Who was in the queue cannot be: nobody is there to accept.
    assert len(load.lost) <= 4, load.lost


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_the_next_start_succeeds_while_an_old_worker_is_in_a_request(daemon: Daemon, kind: str) -> None:
    listen = f"127.0.0.1:{free_port()}" if kind == "tcp" else daemon.folder / "www.sock"
    daemon.add_pool("www", {"pm.max_children": 2, "listen": listen})
    daemon.start()
    with Connection(daemon.address()) as longest:
        longest.send(request_bytes(get_parameters("/block")))
        (old,) = daemon.gate.wait_inside()
        daemon.stop(signal.SIGKILL)
        daemon.start()
        new = daemon.engage(2)
        for _ in range(10):
            assert int(daemon.get("/pid").body) in new
        daemon.gate.release()
        assert int(longest.receive().body) == old
    wait_exit_of_stranger(old)


def wait_exit_of_stranger(pid: int) -> None:
    """For a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        wait_exit(pid)
    assert title_of(pid) == ""


def test_the_next_start_succeeds_under_load_time_after_time(daemon: Daemon) -> None:
    port = free_port()
    daemon.add_pool("www", {"listen": f"127.0.0.1:{port}", "pm.max_children": 2})
    daemon.start()
    with Load(daemon.address()) as load:
        for _ in range(3):
            daemon.stop(signal.SIGKILL)
            daemon.start()
            load.wait_answers(20)


@pytest.mark.parametrize("timeout", ["0", "1s"])
def test_without_a_master_a_request_has_its_limit(daemon: Daemon, timeout: str) -> None:
    daemon.set_global({"process_control_timeout": timeout})
    daemon.add_pool()
    daemon.start()
    with Connection(daemon.address()) as client, watching(*daemon.family()) as everybody:
        client.send(request_bytes(get_parameters("/block")))
        daemon.gate.wait_inside()
        daemon.send_signal(signal.SIGKILL)
        daemon.wait_exit()
        for process in everybody:
            process.wait_exit()
        assert client.receive().ended is None
