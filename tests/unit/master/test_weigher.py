"""What a process weighs, asked of real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pyfpm.master import weigher
from pyfpm.master.weigher import MOST_WEIGHED, Weigher, proportional_size
from pyfpm.scoreboard import IDLE, NUMBER, Scoreboard, Slot
from tests.harness.interpreters import AS_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MIB = 1 << 20
NOBODY = 65534
HOLD = "import sys; held = bytearray({}); print(flush=True); sys.stdin.read()"


@contextmanager
def process_with(mebibytes: int) -> Iterator[int]:
    """The pid of a process that has touched so much memory."""
    source = HOLD.format(f"b'x' * {mebibytes * MIB}")
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


def test_what_a_process_has_touched_is_weighed() -> None:
    with process_with(5) as small, process_with(60) as large:
        light, heavy = proportional_size(small), proportional_size(large)
    assert light is not None
    assert heavy is not None
    assert 50 * MIB < heavy - light < 65 * MIB


def test_the_largest_are_given_by_what_is_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    with process_with(20) as pid:
        proportional = proportional_size(pid)
        monkeypatch.setattr(weigher, "LARGEST", 10 * MIB)
        resident = proportional_size(pid)
    assert proportional is not None
    assert resident is not None
    assert resident > proportional, "what is shared with others counts in full"


def test_nobody_is_not_known() -> None:
    assert proportional_size(1 << 30) is None


@pytest.mark.skipif(not AS_ROOT, reason="needs root to become somebody else")
def test_what_the_kernel_does_not_tell_is_not_known() -> None:
    with process_with(1) as pid:
        os.seteuid(NOBODY)
        try:
            assert proportional_size(pid) is None
        finally:
            os.seteuid(0)


def pool_of(board: Scoreboard, slots: range) -> Any:
    """As much of a pool as the weigher sees; each of its workers is this process."""
    for slot in slots:
        board.show(slot, IDLE)
    children = [SimpleNamespace(slot=slot, pid=os.getpid(), ready=True, weighed=-1) for slot in slots]
    generation = SimpleNamespace(scoreboard=board, children=children)
    return SimpleNamespace(generations=lambda: [generation])


def weighed(board: Scoreboard) -> list[int]:
    """The slots whose worker has been weighed since the last time."""
    found = [slot for slot in range(board.slots) if board.read_numbers(slot).weight]
    for slot in found:
        board.weigh(slot, 0)
    return found


def test_some_at_a_time_and_everybody_in_turn() -> None:
    board = Scoreboard.create("test", 10)
    pools = [pool_of(board, range(6)), pool_of(board, range(6, 10))]
    scales, hours, seen = Weigher(), iter(range(0, 1 << 20, 3600)), []
    for _ in range(10):
        scales.weigh(pools, float(next(hours)))
        seen.append(weighed(board))
        assert len(seen[-1]) <= MOST_WEIGHED
    assert sorted(slot for some in seen for slot in some) == list(range(10)), (
        "each once: nobody has begun a request since"
    )
    Slot(board, 7).numbers[NUMBER] = 1
    scales.weigh(pools, float(next(hours)))
    assert weighed(board) == [7]
    board.close()


def test_it_does_not_weigh_all_the_time() -> None:
    board = Scoreboard.create("test", 10)
    pools, scales = [pool_of(board, range(10))], Weigher()
    scales.weigh(pools, 100.0)
    assert weighed(board)
    scales.weigh(pools, 100.9)
    assert not weighed(board)
    board.close()
