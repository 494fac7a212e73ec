"""How much memory each worker has: its PSS, weighed from time to time and written where a status page finds it.

Runs in: master, as root or as the pools' user; otherwise the kernel does not tell, and unknown stays unknown.
Fails by: nothing. A worker that cannot be weighed is passed over until its next request.

Weighing walks the page tables: 0.2 ms for a small worker, 5 ms for one of 500 MB. So it is a few a second in the whole
daemon, and whoever has served nothing since is left alone: an idle daemon weighs nobody.
"""

from __future__ import annotations

import os
import time
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfpm.master.pools import Pool

INTERVAL = 1.0  # seconds between two rounds
MOST_WEIGHED = 4  # in a round
MOST_LOOKED_AT = 200  # in a round, for one that is due: a look takes a microsecond
PATIENCE = 0.004  # seconds: a round that has taken as long is over
REST = 100  # times what a round took: weighing has a hundredth of the master's time at most
LARGEST = 512 << 20  # bytes resident
_PAGE = os.sysconf("SC_PAGE_SIZE")
_WAITS_IN_KERNEL = b"D"
_STATE, _RESIDENT = 0, 21  # places in /proc/PID/stat behind the name: proc_pid_stat(5), fields 3 and 24


class Weigher:
    """Goes round all pools, a few workers at a time."""

    def __init__(self) -> None:
        self._due = 0.0
        self._place = 0  # in the round

    def weigh(self, pools: Iterable[Pool], now: float) -> None:
        """Weigh some of those who have begun a request since they were weighed."""
        if now < self._due:
            return
        begun = time.monotonic()
        weighed = 0
        ring = [
            (generation.scoreboard, child)
            for pool in pools
            for generation in pool.generations()
            for child in generation.children
            if child.ready
        ]
        first = self._place = self._place % max(1, len(ring))
        for board, child in islice((*ring[first:], *ring[:first]), MOST_LOOKED_AT):
            self._place += 1
            number = board.begun_in(child.slot)
            if number == child.weighed:
                continue
            child.weighed = number
            size = proportional_size(child.pid)
            if size is not None:
                board.weigh(child.slot, size)
            weighed += 1
            if weighed == MOST_WEIGHED or time.monotonic() - begun > PATIENCE:
                break
        self._due = now + max(INTERVAL, REST * (time.monotonic() - begun) if weighed else 0.0)


def proportional_size(pid: int) -> int | None:
    """PSS in bytes, proc_pid_smaps(5); None where it is not to be known.

    For a very large process its RSS is taken, which costs nothing: what it shares with others matters little there, and
    it is the one that nobody may miss. Who waits in the kernel, for a dead file server perhaps, is not weighed: he may
    hold the lock of his memory, and weighing would wait for it.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        if fields[_STATE] == _WAITS_IN_KERNEL:
            return None
        if (resident := int(fields[_RESIDENT]) * _PAGE) > LARGEST:
            return resident
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            return next((int(line.split()[1]) * 1024 for line in rollup if line.startswith(b"Pss:")), None)
    except (OSError, ValueError, IndexError):
        return None
