"""What the monitor is shown: everything once, then what has changed, however small its channel."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pyfpm import messages, packets
from pyfpm.logs.error_log import ErrorLog
from pyfpm.master.monitor import Monitor, _Process
from pyfpm.scoreboard import Scoreboard

if TYPE_CHECKING:
    from collections.abc import Iterator

POOLS = 30


@dataclass(eq=False)
class PoolOfATest:
    """As much of a pool as is shown."""

    name: str
    boards: list[Scoreboard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.boards.append(Scoreboard.create(self.name, 1))
        self.resources = SimpleNamespace(status_listener=None)
        self.settings = SimpleNamespace(
            app="a:b", pm_status_path=None, ping_path=None, ping_response="", listen_allowed_clients=()
        )
        self._generations = [SimpleNamespace(scoreboard=board, settings=self.settings) for board in self.boards]

    def generations(self) -> list[Any]:
        return self._generations


class Shown:
    """A monitor that was started, seen from its own side."""

    def __init__(self) -> None:
        ours, self.channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that the kernel gives
        self.channel.setblocking(False)
        self.monitor = Monitor(ErrorLog(clock=lambda: 0.0))
        process = _Process(os.getpid(), os.pidfd_open(os.getpid()), ours, os.open(os.devnull, os.O_RDONLY), "", 0.0)
        self.monitor._process = process

    def show(self, pools: list[Any], listener: socket.socket) -> None:
        self.monitor.reconcile(pools, listener, "", 1.0)

    def take(self) -> list[messages.Message]:
        taken = []
        with contextlib.suppress(BlockingIOError):
            while (received := packets.receive(self.channel, messages.Speaker.MASTER_SHOWS)) is not None:
                taken.append(received[0])
                for descriptor in received[0].descriptors:
                    os.close(descriptor)
        return taken

    def close(self) -> None:
        assert self.monitor._process is not None
        self.monitor._process.close()
        self.channel.close()


@pytest.fixture
def shown() -> Iterator[Shown]:
    with contextlib.closing(Shown()) as made:
        yield made


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


@pytest.fixture
def pools() -> Iterator[list[PoolOfATest]]:
    made = [PoolOfATest(f"pool{number}") for number in range(POOLS)]
    yield made
    for pool in made:
        for board in pool.boards:
            board.close()


def test_a_channel_that_is_full_is_tried_again_soon(
    shown: Shown, pools: list[PoolOfATest], listener: socket.socket
) -> None:
    taken: list[messages.Message] = []
    rounds = 0
    shown.show(pools, listener)
    assert shown.monitor.next_due(1.0) < 2.0, "there is more"
    while shown.monitor.next_due(1.0) < math.inf:
        taken += shown.take()
        shown.show(pools, listener)
        rounds += 1
    taken += shown.take()
    assert rounds > 1
    kinds = [type(one) for one in taken]
    expected = [messages.ShowBoard] * POOLS + [messages.ShowPool] * POOLS + [messages.ShowListener]
    assert kinds == expected, "each once, and in an order in which nothing is named before it is known"


def test_only_changes_are_told(shown: Shown, pools: list[PoolOfATest], listener: socket.socket) -> None:
    few = pools[:2]
    shown.show(few, listener)
    assert len(shown.take()) == 5
    shown.show(few, listener)
    assert shown.take() == []
    few[0].settings = SimpleNamespace(**{**vars(few[0].settings), "ping_path": "/ping"})
    shown.show(few, listener)
    (told,) = shown.take()
    assert "/ping" in told.text
    shown.show(few[1:], listener)
    assert [type(one) for one in shown.take()] == [messages.Forget] * 2, "the pool and its board"
