"""What the master knows of a pool beyond its workers' slots, kept and written where a status page finds it.

Runs in: master, once a second for each pool that is awake: two or three small system calls.
Fails by: nothing. It counts stages that the pool's processes write, so a pool can lie about itself, and about no other.

Each generation has a scoreboard of its own, and whoever answers a status request sees that one alone: so the facts on
each say what there is elsewhere, on the others and of workers that are gone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyfpm.master.generation import Tally
from pyfpm.scoreboard import MANAGERS, UNKNOWN
from pyfpm.status.shares import averaged

if TYPE_CHECKING:
    from pyfpm.master.backlog import Backlog, Queue
    from pyfpm.master.pools import Pool
    from pyfpm.status.shares import Shares

INTERVAL = 1.0  # seconds


class Figures:
    """The figures of one pool, from its start on."""

    def __init__(self, backlog: Backlog) -> None:
        self.queue: Queue | None = None
        self.queue_max: int | None = None
        self.max_active = 0
        self.gone = Tally()  # of the workers of generations that are no more
        self._backlog = backlog
        self._start_time = int(time.time())
        self._started = time.monotonic_ns()
        self._shares: Shares = (0.0, 0.0, 0.0)
        self._reload_time = UNKNOWN
        self._last: float | None = None
        self._known: tuple[object, ...] = ()

    def tally(self, pool: Pool) -> Tally:
        """What became of all workers that are gone."""
        total = Tally()
        for one in (self.gone, *(generation.tally for generation in pool.generations())):
            total.add(one)
        return total

    def keep(self, pool: Pool, now: float) -> None:
        """Look and write, once a second, and at once when the generation changes or a reload ends."""
        known = (pool.current.number, pool.reloads, pool.rollover is None)
        due = self._last is None or now - self._last >= INTERVAL
        if not due and known == self._known:
            return
        if self._known and known[1] != self._known[1]:
            self._reload_time = int(time.time())
        self._known = known
        self._look(pool, now)
        self._write(pool)
        self._last = now

    def look_at_queue(self, pool: Pool) -> Queue | None:
        """The listen queue now; None where the system does not tell."""
        self.queue = self._backlog.of(pool.common.listener.socket)
        if self.queue is not None:
            self.queue_max = max(self.queue_max or 0, self.queue.waiting)
        return self.queue

    def _look(self, pool: Pool, now: float) -> None:
        self.look_at_queue(pool)
        active = sum(generation.scoreboard.count()[1] for generation in pool.generations())
        self.max_active = max(self.max_active, active)
        elapsed = INTERVAL if self._last is None else now - self._last
        age = now - self._started / 1e9
        self._shares = averaged(self._shares, active / pool.settings.pm_max_children, elapsed, age)

    def _write(self, pool: Pool) -> None:
        settings = pool.settings
        tally = self.tally(pool)
        facts = {
            "start_time": self._start_time,
            "started": self._started,
            "generation": pool.current.number,
            "queue": UNKNOWN if self.queue is None else self.queue.waiting,
            "queue_max": UNKNOWN if self.queue_max is None else self.queue_max,
            "queue_limit": UNKNOWN if self.queue is None else self.queue.limit,
            "max_active": self.max_active,
            "max_children_reached": pool.times_at_limit,
            "slow": tally.slow,
            "recycled": tally.recycled,
            "crashed": tally.crashed,
            "killed": tally.killed,
            "memory_peak": tally.memory_peak,
            "manager": MANAGERS.index(settings.pm),
            "max_children": settings.pm_max_children,
            "max_requests": settings.pm_max_requests,
            "max_memory": settings.pm_max_memory.bytes,
            "max_lifetime": int(settings.pm_max_lifetime * 1000),
            "reload_time": self._reload_time,
        }
        facts |= {f"busy_{minutes}": int(share * 1e6) for minutes, share in zip((1, 5, 15), self._shares, strict=True)}
        counts = {generation: generation.scoreboard.count() for generation in pool.generations()}
        # There is more than one during a reload only: the ordinary turn need not read every slot.
        begun = {generation: generation.begun() for generation in counts} if len(counts) > 1 else {pool.current: 0}
        for generation, (idle, active) in counts.items():
            facts["idle_elsewhere"] = sum(count[0] for count in counts.values()) - idle
            facts["active_elsewhere"] = sum(count[1] for count in counts.values()) - active
            facts["accepted_elsewhere"] = tally.begun + sum(begun.values()) - begun[generation]
            generation.scoreboard.write_facts(facts, pool.last_reload)
