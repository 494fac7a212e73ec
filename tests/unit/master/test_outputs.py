"""What a pool prints: within measure for the master, and counted where it is too much."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest

from pyfpm.logs.error_log import ErrorLog
from pyfpm.logs.worker_output import OutputLines
from pyfpm.master.dialogue import MOST_LINES, few_lines
from pyfpm.master.loop import Loop
from pyfpm.master.outputs import WRITTEN_A_TURN, Output
from pyfpm.master.quota import BURST, BYTES_A_SECOND, Quota
from tests.unit.logs.test_error_log import Sink


class CountingSink(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, lines: bytes) -> bool:
        self.writes += 1
        return super().write(lines)


class Bench:
    def __init__(self) -> None:
        self.now = 100.0
        self.loop = Loop(lambda: self.now)
        self.sink = CountingSink()
        self.log = ErrorLog(clock=lambda: 0.0)
        self.log.write_to(self.sink)
        self.log.launched()
        self.quota = Quota()
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        lines = OutputLines(functools.partial(self.log.frame, "www", 1, "stdout", decorate=True))
        self.output = Output(self.reader, lines, self.log, self.loop, self.quota)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.output.close()
    os.close(made.writer)
    made.loop.close()


def test_a_pipe_full_of_newlines_is_a_few_writes(bench: Bench) -> None:
    os.write(bench.writer, b"\n" * 65536)
    bench.loop.wait(0)
    assert bench.sink.writes <= 2
    assert sum(map(len, bench.sink.lines)) < WRITTEN_A_TURN + 4096 * 100
    bench.output.close()
    assert bench.sink.writes <= 16
    assert len(bench.sink.lines) + bench.quota.left_out >= 65536, "what is not logged is counted"


def test_what_is_over_the_quota_is_left_out_and_counted(bench: Bench) -> None:
    bench.quota.refill(bench.now)
    bench.quota.charge(BURST + BYTES_A_SECOND)
    os.write(bench.writer, b"begun\nand\nhalf")
    bench.loop.wait(0)
    assert bench.sink.lines == []
    assert bench.quota.summary(bench.now) == "", "not at once, or it would be a flood of its own"
    assert bench.quota.summary(bench.now + 1) == "2 lines of output left out, more than 1024 KiB a second"
    assert bench.quota.summary(bench.now + 2) == ""
    bench.now += 2
    os.write(bench.writer, b"heard\n")
    bench.loop.wait(0)
    assert bench.sink.lines[-1].endswith(b'"heard"\n')


def test_an_ordinary_site_is_heard_in_full(bench: Bench) -> None:
    for _ in range(100):
        bench.now += 0.05
        os.write(bench.writer, b"x" * 99 + b"\n" + b"y" * 9_999 + b"\n")
        bench.loop.wait(0)
    assert bench.quota.left_out == 0


def test_a_message_of_many_lines_keeps_both_ends() -> None:
    assert few_lines("a\nb") == "a\nb"
    text = few_lines("\n".join(str(number) for number in range(98_000)))
    lines = text.split("\n")
    assert len(lines) == MOST_LINES + 1
    assert (lines[0], lines[-1]) == ("0", "97999")
    assert f"[... {98_000 - MOST_LINES} lines left out]" in lines
