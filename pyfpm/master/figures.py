"""What the master knows of a pool beyond its workers' slots, kept and written where a status page finds it.

Runs in: master, once a second for each pool that is awake: two or three small system calls.
Fails by: nothing. It counts stages that the pool's processes write, so a pool can lie about itself, and about no other.

Each generation has a scoreboard of its own, and whoever answers a status request sees that one alone: so the facts on
each say what there is elsewhere: on the others, and of generations that are gone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyfpm.facts import MANAGERS, STEP, STEPS, TEMPLATES, UNKNOWN, History
from pyfpm.master.shares import averaged
from pyfpm.master.tally import Tally

if TYPE_CHECKING:
    from pyfpm.master.backlog import Backlog, Queue
    from pyfpm.master.generation import Generation
    from pyfpm.master.pools import Pool
    from pyfpm.master.shares import Shares

INTERVAL = 1.0  # seconds
NO_SHARE = 0.001  # of workers at work: too little to be shown


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
        self._history = History()
        self._step = self._checked = int(time.monotonic() / STEP)
        self._begun = 0  # requests, until the last step
        self._last: float | None = None
        self._known: tuple[object, ...] = ()
        self._busy = False

    @property
    def shares(self) -> Shares:
        """How busy the pool has been over 1, 5 and 15 minutes."""
        return self._shares

    @property
    def reload_time(self) -> int | None:
        """When the last reload ended, in seconds since 1970; None if there was none."""
        return None if self._reload_time == UNKNOWN else self._reload_time

    def age(self, now: float) -> float:
        """Seconds since the pool was opened."""
        return max(0.0, now - self._started / 1e9)

    def totals(self, pool: Pool) -> Tally:
        """All that was counted since the pool was opened."""
        total = self.tally(pool)
        for generation in pool.generations():
            total.count(generation.scoreboard)
        return total

    def tally(self, pool: Pool) -> Tally:
        """The same without what is counted on scoreboards that there are."""
        total = Tally()
        for one in (self.gone, *(generation.tally for generation in pool.generations())):
            total.add(one)
        return total

    def keep(self, pool: Pool, now: float) -> None:
        """Look and write, once a second while something goes on, and at once when it has happened."""
        known = _known_of(pool)
        due = self._last is None or now - self._last >= INTERVAL
        if known == self._known and not (due and self._is_awake(pool, now)):
            return
        if self._known and known[0] != self._known[0]:
            self._reload_time = int(time.time())
        self._known = known
        self._look(pool, now)
        self._write(pool)
        self._last = now

    def look_at_queue(self, pool: Pool) -> Queue | None:
        """The listen queue now; None where the system does not tell."""
        self.queue = self._backlog.of(pool.resources.listener.socket)
        if self.queue is not None:
            self.queue_max = max(self.queue_max or 0, self.queue.waiting)
        return self.queue

    def _is_awake(self, pool: Pool, now: float) -> bool:
        """Whether a look would find anything new. This is asked of each idle pool each second, so it must be cheap."""
        if self._busy or any(generation.scoreboard.is_at_work() for generation in pool.generations()):
            return True
        step, before = int(now / STEP), self._checked
        self._checked = step
        return step != before and self._requests(pool) != self._begun

    def _look(self, pool: Pool, now: float) -> None:
        self.look_at_queue(pool)
        active = sum(generation.scoreboard.count()[1] for generation in pool.generations())
        self.max_active = max(self.max_active, active)
        share = active / pool.settings.pm_max_children
        elapsed = INTERVAL if self._last is None else now - self._last
        if elapsed > 2 * INTERVAL:  # nobody was at work while nobody looked
            self._shares = averaged(self._shares, 0.0, elapsed - INTERVAL, self.age(now))
            elapsed = INTERVAL
        self._shares = averaged(self._shares, share, elapsed, self.age(now))
        self._busy = max(share, *self._shares) > NO_SHARE
        self._remember(int(now / STEP), self._requests(pool), share)

    def _requests(self, pool: Pool) -> int:
        """All that were begun."""
        live = sum(generation.scoreboard.begun() for generation in pool.generations())
        return self.gone.begun + live

    def _remember(self, step: int, begun: int, share: float) -> None:
        """Note the step of the pool's history, if it is a new one. Nothing went on in those that were left out."""
        if step == self._step:
            return
        for number in range(max(self._step, step - STEPS) + 1, step):
            self._history.put(number, 0, 0, 0)
        queue = UNKNOWN if self.queue is None else self.queue.waiting
        self._history.put(step, max(0, begun - self._begun), queue, int(share * 1e6))
        self._step, self._begun = step, begun

    def drop(self, generation: Generation) -> None:
        """It is no more: keep what it has counted."""
        self.gone.add(generation.tally)
        self.gone.count(generation.scoreboard)

    def _elsewhere(self, pool: Pool, generation: Generation) -> _Elsewhere:
        found = _Elsewhere()
        found.add(self.gone)
        for board in (other.scoreboard for other in pool.generations() if other is not generation):
            idle, active = board.count()
            found.idle += idle
            found.active += active
            found.count(board)
        return found

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
            "timed_out": tally.timed_out,
            "recycled": tally.recycled,
            "crashed": tally.crashed,
            "killed": tally.killed,
            "memory_peak": tally.memory_peak,
            "manager": MANAGERS.index(settings.pm),
            "template": TEMPLATES.index(pool.current.templates.state),
            "max_children": settings.pm_max_children,
            "max_requests": settings.pm_max_requests,
            "max_memory": settings.pm_max_memory.bytes,
            "max_lifetime": int(settings.pm_max_lifetime * 1000),
            "reload_time": self._reload_time,
            "quiet": UNKNOWN if self._busy else self._step,
        }
        facts |= {f"busy_{minutes}": int(share * 1e6) for minutes, share in zip((1, 5, 15), self._shares, strict=True)}
        note = pool.last_reload.partition("\n")[0]  # a traceback is not for everybody, nor would it fit
        history = bytes(self._history)
        for generation in pool.generations():
            elsewhere = self._elsewhere(pool, generation)
            here = {
                "accepted_elsewhere": elsewhere.begun,
                "idle_elsewhere": elsewhere.idle,
                "active_elsewhere": elsewhere.active,
                "shed_elsewhere": elsewhere.shed,
            }
            generation.scoreboard.facts.write({**facts, **here}, note, elsewhere.durations, elsewhere.waits)
            generation.scoreboard.facts.write_history(history)


def _known_of(pool: Pool) -> tuple[object, ...]:
    """What the master knows without looking, and others should soon know too; the count of reloads comes first."""
    return (
        pool.reloads,
        pool.current.number,
        pool.rollover is None,
        pool.current.templates.state,
        pool.times_at_limit,
        *(generation.tally.ends() for generation in pool.generations()),
    )


@dataclass
class _Elsewhere(Tally):
    """What one scoreboard cannot tell: of generations that are no more, and of the others that there are."""

    idle: int = 0
    active: int = 0
