"""How much memory each worker has: its PSS, weighed from time to time and written where a status page finds it.

Runs in: master (Weigher), and the child that weighs: as root or as the pools' user; otherwise the kernel does not tell,
and unknown stays unknown.
Fails by: nothing. A worker that cannot be weighed is passed over until its next request.

Weighing walks the page tables: 0.2 ms for a small worker, 5 ms for one of 500 MB. And it waits for the lock of that
memory, which a tenant can hold as long as he likes: a page fault on a file system that he serves himself (FUSE) is one
way. So who weighs is a child of the master, some workers a round, and its alarm ends it. A round costs the master about
2 ms, for the fork; whoever has served nothing since is left alone: an idle daemon weighs nobody.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from pyfpm import kernel
from pyfpm.fork import fork_child

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfpm.master.children import Child
    from pyfpm.master.generation import Generation
    from pyfpm.master.loop import Loop
    from pyfpm.master.pools import Pool

INTERVAL = 5.0  # seconds between two rounds
MOST_WEIGHED = 16  # in a round
MOST_LOOKED_AT = 1000  # in a round, for one that is due: a look takes a microsecond
LONGEST = 2.0  # seconds that a round may take
LARGEST = 512 << 20  # bytes resident
NEVER = -2  # Child.weighed of a worker that a round had to wait for
_PROC = "/proc"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_RESIDENT = 21  # its place in /proc/PID/stat behind the name: proc_pid_stat(5), field 24
_SIZE = struct.Struct("=q")  # of one worker, on the pipe; 0 if it is not known


class Due(NamedTuple):
    """A worker that is to be weighed."""

    place: int  # in the round of all
    generation: Generation
    child: Child
    begun: int  # how many requests it has begun


class Weigher:
    """Goes round all pools, some workers at a time, and has each group weighed by a child of its own."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._next = 0.0
        self._place = 0  # in the round of all
        self._pid = 0  # of the child that weighs, or weighed last
        self._reader = -1  # its pipe
        self._group: list[Due] = []
        self._since = 0.0
        self._answer = b""

    @property
    def is_weighing(self) -> bool:
        return self._reader >= 0

    def weigh(self, pools: Iterable[Pool], now: float) -> None:
        """Have some of those weighed who have begun a request since they were."""
        if now < self._next or self.is_weighing:
            return
        self._next = now + INTERVAL
        self._group = self._choose(pools)
        if self._group:
            with contextlib.suppress(OSError):  # no process or descriptor left: there are other rounds
                self._begin(now)

    def bury(self, pid: int) -> bool:
        """Whether a process that has ended was the child that weighs; what it found comes by its pipe."""
        return pid == self._pid

    def _choose(self, pools: Iterable[Pool]) -> list[Due]:
        ring = [
            (generation, child)
            for pool in pools
            for generation in pool.generations()
            for child in generation.children
            if child.ready
        ]
        first = self._place = self._place % max(1, len(ring))
        group: list[Due] = []
        for generation, child in islice((*ring[first:], *ring[:first]), MOST_LOOKED_AT):
            begun = generation.scoreboard.begun_in(child.slot)
            if child.weighed not in (begun, NEVER):
                group.append(Due(self._place, generation, child, begun))
            self._place += 1
            if len(group) == MOST_WEIGHED:
                break
        return group

    def _begin(self, now: float) -> None:
        reader, writer = os.pipe()
        try:
            self._pid = fork_child(partial(_write_sizes, [due.child.pid for due in self._group], writer))
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._reader, self._since, self._answer = reader, now, b""
        self._loop.watch(reader, self._on_readable)

    def _on_readable(self, now: float) -> None:
        piece = os.read(self._reader, _SIZE.size * MOST_WEIGHED)
        self._answer += piece
        if piece:
            return
        self._loop.forget(self._reader)
        os.close(self._reader)
        self._reader = -1
        self._note([size for (size,) in _SIZE.iter_unpack(self._answer)], now)

    def _note(self, sizes: list[int], now: float) -> None:
        for due, size in zip(self._group, sizes, strict=False):
            due.child.weighed = due.begun
            # Who has died in the meantime has left his slot to others, or all of the scoreboard is gone.
            if size and due.generation.children.in_slot(due.child.slot) is due.child:
                due.generation.scoreboard.weigh(due.child.slot, size)
        if len(sizes) < len(self._group):
            last = self._group[len(sizes)]
            if now - self._since >= LONGEST:
                last.child.weighed = NEVER
            self._place = last.place + 1


def _write_sizes(pids: list[int], writer: int) -> None:
    """In the child. The lock of a process's memory is waited for killably, and an alarm that nobody handles kills."""
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    kernel.die_with_parent(signal.SIGKILL)
    with contextlib.suppress(BrokenPipeError):  # the master has become a newer one
        for pid in pids:
            os.write(writer, _SIZE.pack(proportional_size(pid) or 0))


def proportional_size(pid: int) -> int | None:
    """PSS in bytes, proc_pid_smaps(5); None where it is not to be known. It may wait as long as that process likes.

    For a very large process its RSS is taken, which costs nothing: what it shares with others matters little there, and
    it is the one that nobody may miss.
    """
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as stat:
            resident = int(stat.read().rpartition(b")")[2].split()[_RESIDENT]) * _PAGE
        if resident > LARGEST:
            return resident
        with open(f"{_PROC}/{pid}/smaps_rollup", "rb") as rollup:
            return next((int(line.split()[1]) * 1024 for line in rollup if line.startswith(b"Pss:")), None)
    except (OSError, ValueError, IndexError):
        return None
