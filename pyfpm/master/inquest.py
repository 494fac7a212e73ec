"""Stacks on demand: ask the workers that are meant, some at a time, and tell each answer as it comes.

Runs in: master.
Fails by: nothing; of a worker that writes none it is told why, as far as that can be seen.
"""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NamedTuple

from pyfpm.master import processes
from pyfpm.master.reporting import report_on_worker, workers_of
from pyfpm.messages import Speaker
from pyfpm.status.reports import IDLE, StackReport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfpm.master.children import Child
    from pyfpm.master.control import Request
    from pyfpm.master.generation import Generation
    from pyfpm.master.pools import Pool

AT_ONCE = 16  # dumps that end in the same look; each may be 64 KiB, and the asker is to read along
NOT_OFFERED = "it cannot be asked: its pool has no slowlog_signal, or the application has taken that"
NO_ANSWER = "it has not answered within a second"
AT_REST = "idle"
NOT_YET = "it is starting"
GONE = "it has ended"
LEFT_BEHIND = "it is of the pyfpm before the upgrade"
# What proc_pid_stat(5) calls the states in which a process handles no signal.
_STATES = {
    "T": "it is stopped, by SIGSTOP most often; SIGCONT lets it go on",
    "t": "a debugger holds it",
    "D": "the kernel does not let go of it (state D): a disk or a network file system that hangs, most often",
    "Z": GONE,
    "": GONE,
}


def hold_inquest(request: Request, pools: Iterable[Pool], now: float) -> None:
    """Answer `request`, which is for stacks: of `pools`, or of the workers of theirs that it names."""
    _Inquest(request).begin([(generation, child) for pool in pools for generation, child in workers_of(pool)], now)


class _Question(NamedTuple):
    """Whom to ask, and what is told of it beside its stacks."""

    generation: Generation
    child: Child
    blank: StackReport


class _Inquest:
    def __init__(self, request: Request) -> None:
        self._request = request
        self._questions: deque[_Question] = deque()
        self._open = 0  # asked and not yet answered

    def begin(self, workers: list[tuple[Generation, Child]], now: float) -> None:
        pools, named = self._request.pools, self._request.workers
        for generation, child in workers:
            if not pools or generation.name in pools or child.pid in named:
                self._look_at(generation, child, now)
        self._go_on(now)

    def _look_at(self, generation: Generation, child: Child, now: float) -> None:
        worker = report_on_worker(generation, child, now)
        blank = StackReport(
            **asdict(worker), main_thread=child.main_thread, depth=generation.settings.request_slowlog_trace_depth
        )
        if worker.state == IDLE and not self._request.full and child.pid not in self._request.workers:
            self._tell(replace(blank, note=AT_REST))
        elif not child.ready:
            self._tell(replace(blank, note=NOT_YET))
        else:
            self._questions.append(_Question(generation, child, blank))

    def _go_on(self, now: float) -> None:
        """Ask the next ones; the verdict is due when there are none left."""
        while self._questions and self._open < AT_ONCE and self._request.is_open:
            generation, child, blank = self._questions.popleft()
            if generation.children.in_slot(child.slot) is not child:
                self._tell(replace(blank, note=GONE))
                continue
            self._open += 1
            generation.ask_stacks(child, now, functools.partial(self._hear, child, blank))
        if not self._open:
            self._request.finish(0)

    def _hear(self, child: Child, blank: StackReport, text: bytes, now: float) -> None:
        note = "" if text else _why_silent(child)
        self._tell(replace(blank, text=text.decode("utf-8", "replace"), note=note))
        self._open -= 1
        self._go_on(now)

    def _tell(self, report: StackReport) -> None:
        self._request.answer([report.line()])


def _why_silent(child: Child) -> str:
    if child.speaker is Speaker.INHERITED_WORKER:
        return LEFT_BEHIND
    if not child.main_thread:
        return NOT_OFFERED
    return _STATES.get(processes.state_of(child.pid), NO_ANSWER)
