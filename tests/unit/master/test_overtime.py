"""What a slot that lies can make the master write: one entry in its time, and no more than the pool may log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyfpm.logs.error_log import ErrorLog
from pyfpm.master.children import Child, Children
from pyfpm.master.loop import Loop
from pyfpm.master.overtime import Overtime
from pyfpm.master.quota import BURST, Quota
from pyfpm.master.stacks import PATIENCE
from pyfpm.master.tally import Tally
from pyfpm.scoreboard import DEADLINE, NUMBER, RUNNING, SINCE, Scoreboard, Slot
from tests.unit.logs.test_error_log import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# It says that it has a handler for the signal, and never writes a stack.
OFFSET = 8  # of the signal, from SIGRTMIN
SILENT = "import signal, sys; signal.signal(int(sys.argv[1]), lambda *_: None); print(flush=True); sys.stdin.read()"


class Bench:
    """A worker that never shows its stacks, and its slot in our hands."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.now = 100.0
        self.slow_log = folder / "slow.log"
        settings = SimpleNamespace(
            name="www",
            slowlog=str(self.slow_log),
            slowlog_signal=OFFSET,
            request_slowlog_timeout=0.2,
            request_slowlog_trace_depth=20,
            request_terminate_timeout=0.0,
            request_terminate_grace=0.0,
            request_terminate_timeout_track_finished=False,
        )
        self.sink = Sink()
        log = ErrorLog(clock=lambda: 0.0)
        log.write_to(self.sink)
        log.launched()
        self.loop = Loop(lambda: self.now)
        self.board = Scoreboard.create("www", 1)
        self.slot = Slot(self.board, 0)
        self.tally, self.quota = Tally(), Quota()
        children = Children(1)
        reader, self.rope = os.pipe2(os.O_NONBLOCK)
        child = Child(cast("Any", None), 0.0, pid, os.pidfd_open(pid), ready=True, slot=0, trace=reader, main_thread=1)
        children.add(child)
        self.child = child
        self.overtime = Overtime(
            cast("Any", settings), self.board, children, self.tally, log, self.loop, self.quota, lambda *_: True
        )

    def lie(self, seconds: float) -> None:
        """A new request at every look, begun long ago."""
        end = self.now + seconds
        while self.now < end:
            self.slot.numbers[NUMBER] += 1
            self.slot.numbers[SINCE] = 1
            self.slot.numbers[DEADLINE] = 0
            self.slot.stages[0] = RUNNING
            self.overtime.look_after(self.now)
            self.now += 0.01

    def entries(self) -> int:
        return self.slow_log.read_text().count("script_filename") if self.slow_log.exists() else 0

    def lines(self) -> int:
        return sum(b"executing too slow" in line for line in self.sink.lines)

    def close(self) -> None:
        self.overtime.forget(self.child, self.now)
        os.close(self.child.pidfd)
        os.close(self.rope)
        self.loop.close()


@contextmanager
def process() -> Iterator[int]:
    command = [sys.executable, "-c", SILENT, str(signal.SIGRTMIN + OFFSET)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as silent:
        assert silent.stdout is not None
        silent.stdout.readline()
        yield silent.pid
        silent.communicate()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with process() as pid:
        made = Bench(tmp_path, pid)
        yield made
        made.close()


def test_a_new_request_at_every_look_is_one_entry_in_its_time(bench: Bench) -> None:
    bench.lie(4 * (PATIENCE + 0.2))
    assert 15 <= bench.tally.slow <= 25, "as many as honest requests could have been slow"
    assert 1 <= bench.entries() <= 4, "one for each dump"
    assert bench.lines() <= 5


def test_what_is_too_much_is_counted_and_not_logged(bench: Bench) -> None:
    bench.quota.refill(bench.now)
    bench.quota.charge(2 * BURST)
    bench.lie(1.0)
    assert bench.tally.slow >= 4
    assert (bench.lines(), bench.entries()) == (0, 0)
    assert bench.quota.summary() == f"{bench.tally.slow} lines of output left out, more than 1024 KiB a second"
