"""What a process weighs, asked of real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pyfpm.master import weigher
from pyfpm.master.loop import Loop
from pyfpm.master.weigher import INTERVAL, MOST_WEIGHED, Weigher, proportional_size
from pyfpm.scoreboard import IDLE, NUMBER, Scoreboard, Slot
from tests.harness.interpreters import AS_ROOT
from tests.harness.waits import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


class Register(list[Any]):
    """As much of the register of a pool's workers as the weigher sees."""

    def in_slot(self, slot: int) -> object:
        return next((child for child in self if child.slot == slot), None)


def pool_of(board: Scoreboard, slots: range) -> Any:
    """As much of a pool as the weigher sees; each of its workers is this process."""
    for slot in slots:
        board.show(slot, IDLE)
    children = Register(SimpleNamespace(slot=slot, pid=os.getpid(), ready=True, weighed=-1) for slot in slots)
    generation = SimpleNamespace(scoreboard=board, children=children)
    return SimpleNamespace(generations=lambda: [generation], children=children)


def weighed(board: Scoreboard) -> list[int]:
    """The slots whose worker has been weighed since the last time."""
    found = [slot for slot in range(board.slots) if board.read_numbers(slot).weight]
    for slot in found:
        board.weigh(slot, 0)
    return found


class Rounds:
    """A weigher, its loop, and a clock that goes on by an hour from round to round."""

    def __init__(self, pools: list[Any]) -> None:
        self.hour = 0.0
        self.loop = Loop(lambda: self.hour)
        self.scales = Weigher(self.loop)
        self.pools = pools

    def begin(self, hours: float = 1) -> None:
        self.hour += hours * 3600
        self.scales.weigh(self.pools, self.hour)

    def end(self, after: float = 0.0) -> None:
        """Wait for the child that weighs, if there is one."""
        self.hour += after
        deadline = Deadline(20, "what has been weighed")
        while self.scales.is_weighing:
            self.loop.wait(deadline.left())
        pid = self.scales._pid
        assert self.scales.bury(pid)
        if pid > 0:
            with suppress(ChildProcessError):  # of the round before
                os.waitpid(pid, 0)


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard.create("test", 40)
    yield board
    board.close()


def test_some_at_a_time_and_everybody_in_turn(board: Scoreboard) -> None:
    rounds, seen = Rounds([pool_of(board, range(20)), pool_of(board, range(20, 40))]), []
    for _ in range(5):
        rounds.begin()
        rounds.end()
        seen.append(weighed(board))
        assert len(seen[-1]) <= MOST_WEIGHED
    assert sorted(slot for some in seen for slot in some) == list(range(40)), (
        "each once: nobody has begun a request since"
    )
    Slot(board, 7).numbers[NUMBER] = 1
    rounds.begin()
    rounds.end()
    assert weighed(board) == [7]


def test_it_does_not_weigh_all_the_time(board: Scoreboard) -> None:
    rounds = Rounds([pool_of(board, range(40))])
    rounds.begin()
    rounds.end()
    assert weighed(board)
    rounds.begin(hours=(INTERVAL - 0.1) / 3600)
    rounds.end()
    assert not weighed(board)


def test_who_lets_it_wait_holds_up_nobody_and_is_not_weighed_again(
    board: Scoreboard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The memory of the second worker cannot be read: whoever tries waits for ever."""
    monkeypatch.setattr(weigher, "_PROC", str(tmp_path))
    monkeypatch.setattr(weigher, "LONGEST", 0.2)
    for pid in ("1", "3"):
        (tmp_path / pid).symlink_to("/proc/self")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "stat").symlink_to("/proc/self/stat")
    os.mkfifo(tmp_path / "2" / "smaps_rollup")
    pool = pool_of(board, range(3))
    for child in pool.children:
        child.pid = child.slot + 1
    rounds = Rounds([pool])
    rounds.begin()
    rounds.end(after=1.0)
    assert weighed(board) == [0]
    rounds.begin()
    rounds.end()
    assert weighed(board) == [2], "whose turn it is"
    Slot(board, 1).numbers[NUMBER] = 1
    rounds.begin()
    assert not rounds.scales.is_weighing, "nobody is due"


def test_a_slot_that_has_another_worker_by_now(board: Scoreboard) -> None:
    pool = pool_of(board, range(2))
    rounds = Rounds([pool])
    rounds.begin()
    pool.children.pop()
    rounds.end()
    assert weighed(board) == [0]
