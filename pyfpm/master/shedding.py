"""Marks the connections that have waited longer than request_queue_timeout; workers that take one up answer it 503.

Runs in: master. A look at the listen queue once a second, ten in the time of the limit while connections wait.
Fails by: nothing; where the queue is unknown, nothing is marked.

The mark is a place in the queue (behind.py), and stands on the scoreboard. It is right for as long as all connections
are counted there: not while two generations take from one queue, and not after a worker died in the middle of taking
one up. So each of these clears it, and begins anew.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from pyfpm.master.behind import Behind
from pyfpm.scoreboard import IDLE

if TYPE_CHECKING:
    from pyfpm.master.pools import Pool


class Shedding:
    """The mark of one pool's queue."""

    def __init__(self) -> None:
        self._behind = Behind(0.0)
        self._counted_by: tuple[object, ...] = ()  # a change of it makes the counts worthless
        self._last = -math.inf
        self.is_watching = False  # there is a queue

    def next_due(self) -> float:
        """When to look again, though no event has come."""
        return self._last + self._behind.interval if self.is_watching else math.inf

    def look_after(self, pool: Pool, now: float) -> None:
        """Look at the queue if it is time, and set the mark."""
        limit = pool.settings.request_queue_timeout
        if not limit:
            self.is_watching = False
            return
        boards = [generation.scoreboard for generation in pool.generations()]
        counted_by = (limit, pool.current.number, pool.current.signalled, len(boards))
        if counted_by != self._counted_by or len(boards) > 1:
            self._counted_by = counted_by
            self._behind = Behind(limit)
            for board in boards:
                board.set_mark(0)
        if now - self._last < self._behind.interval or (not self.is_watching and boards[0].has(IDLE)):
            return  # where somebody is idle nobody waits
        self._last = now
        queue = pool.queue()
        self.is_watching = queue is not None and queue.waiting > 0 and len(boards) == 1
        if not self.is_watching:
            self._behind.forget()
            boards[0].set_mark(0)
            return
        taken = boards[0].begun()
        queue = pool.queue()  # again: it must be counted after `taken`
        if queue is not None:
            self._behind.note(time.monotonic(), taken, queue.waiting)
        boards[0].set_mark(self._behind.mark(now, taken))
