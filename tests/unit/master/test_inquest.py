"""Stacks of very many workers: some at a time, each told, whoever ends meanwhile included."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from pyfpm import packets
from pyfpm.master.children import Child, Children
from pyfpm.master.control import Request
from pyfpm.master.inquest import AT_ONCE, GONE, hold_inquest
from pyfpm.messages import Message, Progress, Speaker, Verb, Verdict
from pyfpm.scoreboard import RUNNING, Scoreboard
from pyfpm.status.reports import read_stack

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 120
FULL = b"x" * 65536


class Generation:
    """Workers that have been asked, and answer when the test says so."""

    name = "www"
    number = 1
    settings = SimpleNamespace(app="a:b", request_slowlog_trace_depth=20)

    def __init__(self) -> None:
        self.scoreboard = Scoreboard.create("www", WORKERS)
        self.children = Children(WORKERS)
        self.open: list[Callable[[bytes, float], None]] = []
        for slot in range(WORKERS):
            self.scoreboard.show(slot, RUNNING)
            channel = cast("Any", None)
            self.children.add(
                Child(channel, 0.0, 1000 + slot, ready=True, slot=slot, main_thread=1, speaker=Speaker.WORKER)
            )

    def ask_stacks(self, child: Child, _now: float, tell: Callable[[bytes, float], None]) -> None:
        assert self.children.in_slot(child.slot) is child
        self.open.append(tell)


def test_they_are_asked_some_at_a_time() -> None:
    generation = Generation()
    pool = SimpleNamespace(generations=lambda: [generation])
    said: list[Message] = []
    request = Request(Verb.STACK, packets.Sender(1, 0, 0), 100.0, said.append)
    hold_inquest(request, cast("Any", [pool]), 100.0)
    gone = generation.children.in_slot(WORKERS - 1)
    assert gone is not None
    generation.children.remove(gone)
    most = 0
    while generation.open:
        most = max(most, len(generation.open))
        generation.open.pop(0)(FULL, 101.0)
    assert most == AT_ONCE
    assert said[-1] == Verdict(0)
    reports = [read_stack(message.text) for message in said if isinstance(message, Progress)]
    assert sorted(report.pid for report in reports) == [1000 + slot for slot in range(WORKERS)]
    assert [report.pid for report in reports if report.note == GONE] == [gone.pid]
    generation.scoreboard.close()


def test_who_has_hung_up_makes_nobody_answer_any_more() -> None:
    generation = Generation()
    pool = SimpleNamespace(generations=lambda: [generation])
    request = Request(Verb.STACK, packets.Sender(1, 0, 0), 100.0, lambda _: None)
    hold_inquest(request, cast("Any", [pool]), 100.0)
    request.is_open = False
    generation.open.pop(0)(FULL, 101.0)
    assert len(generation.open) == AT_ONCE - 1
    generation.scoreboard.close()
