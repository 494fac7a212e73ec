"""A generation whose template is played by the test: orders that lead to nothing, descriptors that run out, a stop."""

from __future__ import annotations

import os
import resource
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyfpm import messages, packets
from pyfpm.config.directives import GlobalSettings, PoolSettings
from pyfpm.config.values import Address
from pyfpm.fork import fork_child
from pyfpm.logs.error_log import ErrorLog
from pyfpm.logs.files import LogFile
from pyfpm.master.backoff import YOUNG
from pyfpm.master.children import Child, Template
from pyfpm.master.generation import Generation
from pyfpm.master.loop import Loop
from pyfpm.master.processes import End
from pyfpm.master.resources import OpenedLog, PoolResources
from tests.harness.waits import Deadline, wait_exit, wait_readable
from tests.unit.logs.test_error_log import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = PoolSettings(name="www", app="a:b", listen=Address("unix", path="/x"), pm="static", pm_max_children=9)
LONG_AGO = -100.0


class Bench:
    """A generation and its template, a process that only waits: what it would do, the test does at `orders`."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sink = Sink()
        log = ErrorLog(clock=lambda: 0.0)
        log.write_to(self.sink)
        log.launched()
        self.loop = Loop(lambda: self.now)
        self.resources = PoolResources(cast("Any", None), GlobalSettings(), log, self.loop)
        self.generation = Generation(1, SETTINGS, self.resources)
        self.held: list[int] = []
        self.living: list[int] = []
        self.channels: list[socket.socket] = []
        self.template, self.orders = self.begin_template()

    def begin_template(self) -> tuple[int, socket.socket]:
        channel, orders = packets.socket_pair()
        self.channels.append(orders)
        template = Template(channel, self.now, self.fork(), ready=True, speaker=messages.Speaker.TEMPLATE)
        template.pidfd = os.pidfd_open(template.pid)
        self.generation.templates.current = template
        return template.pid, orders

    def fork(self, mailbox: socket.socket | None = None) -> int:
        """A child of ours that waits; a worker, if there is a mailbox to say so in."""

        def life() -> None:
            if mailbox is not None:
                packets.send(mailbox, messages.Born())
            os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            signal.pause()

        inherited, ours = os.pipe()
        self.living.append(fork_child(life))
        os.close(ours)
        os.read(inherited, 1)  # until it has closed what it inherited: what the test closes is closed then
        os.close(inherited)
        return self.living[-1]

    def add_worker(self, since: float = LONG_AGO) -> tuple[Child, socket.socket]:
        """One that has been ready since then, and its end of the mailbox."""
        channel, mailbox = packets.socket_pair()
        self.channels.append(mailbox)
        pid = self.fork()
        slot = self.generation.children.free_slot()
        assert slot is not None
        child = Child(channel, since, pid, os.pidfd_open(pid), slot=slot, ready=True)
        child.speaker = messages.Speaker.WORKER
        self.generation.children.add(child)
        return child, mailbox

    def order(self, more: int = 1) -> None:
        self.generation.want(more, self.now)

    def take_order(self) -> messages.ForkWorker:
        """As the template does; what came with it is open until the end."""
        received = packets.receive(self.orders, messages.Speaker.MASTER_ORDERS)
        assert received is not None
        assert isinstance(received[0], messages.ForkWorker)
        self.held += received[0].descriptors
        return received[0]

    def drop(self) -> None:
        """Close what came with the orders."""
        while self.held:
            os.close(self.held.pop())

    def fail_to_fork(self) -> None:
        slot = self.take_order().slot
        self.drop()
        packets.send(self.orders, messages.ForkFailed(slot, 11))

    def turn(self) -> None:
        self.loop.wait(0)
        self.generation.look_after(self.now)

    def reap(self, pid: int) -> End:
        """Wait for its end, and tell the generation of it as the master does."""
        wait_exit(pid)
        self.generation.hear_newborns(self.now)
        end = End(*os.waitpid(pid, 0))
        self.living.remove(pid)
        self.generation.bury(end, self.now)
        return end

    def lines(self, words: str) -> int:
        return sum(words in line.decode() for line in self.sink.lines)

    def close(self) -> None:
        self.drop()
        for channel in self.channels:
            channel.close()
        for pid in list(self.living):
            os.kill(pid, signal.SIGKILL)
            self.reap(pid)
        self.generation.close()
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ── failures in a row ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_from_before_the_failures_says_nothing_of_them(bench: Bench) -> None:
    bench.add_worker()
    tries = 0
    for _ in range(100):
        if bench.generation.may_start(bench.now):
            tries += 1
            bench.order()
            bench.fail_to_fork()
        bench.turn()
        bench.now += 0.1
    assert tries < 10, "at growing intervals"
    assert (bench.lines("fork() failed"), bench.lines("failed twice in a row")) == (1, 1)
    assert bench.generation.trouble


def test_nor_does_its_leaving(bench: Bench) -> None:
    old, _ = bench.add_worker()
    bench.order()
    bench.fail_to_fork()
    bench.turn()
    bench.generation.dismiss([old], bench.now)
    assert bench.generation.bury(End(old.pid, 0), bench.now)
    assert bench.generation.trouble
    bench.now += 1
    newer, _ = bench.add_worker(bench.now)
    bench.generation.dismiss([newer], bench.now)
    assert bench.generation.bury(End(newer.pid, 0), bench.now)
    assert not bench.generation.trouble, "it did start, and after the failure"


def test_one_that_became_ready_since_then_ends_the_streak_when_it_is_no_longer_young(bench: Bench) -> None:
    bench.order()
    bench.fail_to_fork()
    bench.turn()
    bench.now += 1
    bench.add_worker(bench.now)
    bench.now += YOUNG
    bench.turn()
    assert bench.generation.trouble
    bench.now += 0.1
    bench.turn()
    assert not bench.generation.trouble


def test_a_start_has_failed_when_nobody_from_before_the_failure_is_on_the_way(bench: Bench) -> None:
    bench.order(2)
    bench.now += 1
    bench.fail_to_fork()
    bench.turn()
    assert bench.generation.trouble
    assert not bench.generation.has_failed_to_start
    bench.order()  # what is ordered now is another try
    bench.fail_to_fork()
    bench.turn()
    assert bench.generation.has_failed_to_start


# ── orders that lead to nothing ─────────────────────────────────────────────────────────────────────────────────────


def test_an_order_ends_with_its_template_and_is_no_failure_of_a_worker(bench: Bench) -> None:
    bench.order(3)
    os.kill(bench.template, signal.SIGKILL)
    bench.orders.close()
    bench.reap(bench.template)
    assert bench.lines("ERROR") == 1, "that of the template"
    assert bench.lines("exited on signal 9") == 1
    assert len(bench.generation.children) == 0


def test_who_ends_without_a_word_while_the_template_lives_has_failed(bench: Bench) -> None:
    bench.order()
    bench.take_order()
    bench.drop()
    bench.turn()
    assert bench.generation.trouble == "a worker died before it was born"
    assert len(bench.generation.children) == 0


def test_a_fork_that_failed_is_told_by_its_reason(bench: Bench) -> None:
    """The mailbox that is closed for it may be looked at first."""
    bench.order()
    bench.fail_to_fork()
    bench.generation.hear_newborns(bench.now)
    assert bench.generation.trouble.startswith("fork() failed")


def test_a_template_that_hangs_up_and_lives_is_killed(bench: Bench) -> None:
    bench.order()
    bench.orders.close()
    bench.turn()
    assert bench.reap(bench.template).by == signal.SIGKILL
    assert "template" in bench.generation.trouble, "it is tried again with patience"


def test_a_lost_order_is_not_blamed_on_the_next_template(bench: Bench) -> None:
    bench.order()
    bench.take_order()  # and whoever took it holds its mailbox for ever
    os.kill(bench.template, signal.SIGKILL)
    bench.reap(bench.template)
    bench.orders.close()
    bench.now += SETTINGS.spawn_timeout
    next_one, bench.orders = bench.begin_template()
    bench.now += 0.1
    bench.turn()
    assert len(bench.generation.children) == 0
    assert bench.lines("its template has gone") == 1
    assert os.waitpid(next_one, os.WNOHANG) == (0, 0)


@pytest.mark.parametrize("how", ["press", "dismiss_all"])
def test_a_stop_ends_although_somebody_holds_an_order(bench: Bench, how: str) -> None:
    bench.order()
    bench.take_order()
    if how == "press":
        bench.generation.press(signal.SIGTERM, bench.now)
    else:
        bench.generation.dismiss_all(bench.now)
    bench.reap(bench.template)
    bench.turn()
    assert len(bench.generation.children) == 1, "it has its time to leave"
    if how == "press":
        bench.generation.press(signal.SIGKILL, bench.now)
    bench.now += GlobalSettings().process_control_timeout + 1
    bench.turn()
    assert bench.generation.is_gone
    assert bench.lines("WARNING") + bench.lines("ERROR") == 0


def test_without_a_descriptor_a_worker_is_ended_and_nobody_else(bench: Bench) -> None:
    bench.order()
    mailbox = socket.socket(fileno=bench.take_order().descriptors[0])
    pid = bench.fork(mailbox)
    mailbox.detach()
    (child,) = bench.generation.children
    wait_readable(child.channel.fileno(), Deadline(5, "its first word"))
    with no_descriptor_left():
        bench.turn()
    assert "cannot keep a worker" in bench.generation.trouble
    assert len(bench.generation.children) == 0
    assert End(*os.waitpid(pid, 0)).by == signal.SIGKILL
    bench.living.remove(pid)
    assert os.waitpid(bench.template, os.WNOHANG) == (0, 0)


# ── the access log ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_is_handed_a_log_that_is_closed(bench: Bench, tmp_path: Path) -> None:
    """Its number may be that of any other file by then, another pool's too."""
    log = OpenedLog(LogFile(str(tmp_path / "access.log")))
    bench.resources.access_log = log
    _, mailbox = bench.add_worker()
    mailbox.setblocking(False)
    after = PoolResources(cast("Any", None), GlobalSettings(), bench.resources.log, bench.loop)
    bench.resources.close_unshared(after)
    bench.held.append(os.open(tmp_path / "another.log", os.O_WRONLY | os.O_CREAT))
    assert bench.held == [log.file.fileno()]
    bench.turn()
    with pytest.raises(BlockingIOError):
        packets.receive(mailbox, messages.Speaker.MASTER_POSTS)
