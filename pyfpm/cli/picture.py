"""What `pyfpm top` knows at one moment: the reports, and what only two looks together can tell.

Runs in: an operator's shell.   Pure: no system call, no clock, no log.
Fails by: nothing; what takes two looks is None at the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pyfpm.cli.processes import Stat
    from pyfpm.status.reports import PoolReport, WorkerReport

# What a process does in these states no signal reaches: proc_pid_stat(5).
_HELD = {"T": "stopped", "t": "traced", "D": "disk"}


class Pool(NamedTuple):
    """A pool, and how many requests a second it answers."""

    report: PoolReport
    rate: float | None = None

    @property
    def is_in_trouble(self) -> bool:
        """It cannot do what it should, or has nobody left for the next request."""
        return bool(self.report.trouble) or self.report.busy >= self.report.max or bool(self.report.queue)


class Worker(NamedTuple):
    """A worker, and what the kernel tells of it: its share of a processor, what it is held by, what it has resident."""

    report: WorkerReport
    cpu: float | None = None
    resident: int | None = None
    held: str = ""
    is_slow: bool = False

    @property
    def state(self) -> str:
        words = (self.report.state, self.held, "leaving" * self.report.leaving)
        return ", ".join(word for word in words if word)


@dataclass(frozen=True)
class Picture:
    """The daemon at `taken`, monotonic seconds. `fault` is why there is nothing newer."""

    taken: float = 0.0
    master: int = 0
    pools: tuple[Pool, ...] = ()
    workers: tuple[Worker, ...] = ()
    fault: str = ""
    spent: Mapping[int, float] = field(default_factory=dict)  # seconds of processor time by pid


def compose(
    before: Picture,
    taken: float,
    master: int,
    pools: Sequence[PoolReport],
    workers: Sequence[WorkerReport],
    stats: Mapping[int, Stat],
) -> Picture:
    """The next picture: `stats` is what the kernel tells of the workers, by pid."""
    elapsed = taken - before.taken if before.master == master else 0.0
    answered = {pool.report.pool: pool.report.requests for pool in before.pools}
    limits = {pool.pool: pool.slow_after for pool in pools}
    return Picture(
        taken,
        master,
        tuple(Pool(pool, _rate(answered.get(pool.pool), pool.requests, elapsed)) for pool in pools),
        tuple(_worker(one, stats.get(one.pid), before, elapsed, limits.get(one.pool)) for one in workers),
        spent={pid: stat.cpu for pid, stat in stats.items()},
    )


def _worker(
    report: WorkerReport, stat: Stat | None, before: Picture, elapsed: float, slow_after: float | None
) -> Worker:
    is_slow = report.is_busy and bool(slow_after) and report.elapsed >= (slow_after or 0.0)
    if stat is None:
        return Worker(report, is_slow=is_slow)
    cpu = _rate(before.spent.get(report.pid), stat.cpu, elapsed)
    return Worker(report, cpu, stat.resident, _HELD.get(stat.state, ""), is_slow)


def _rate(before: float | None, now: float, elapsed: float) -> float | None:
    """A count that begins anew, with another generation of the daemon, has no rate."""
    if before is None or elapsed <= 0 or now < before:
        return None
    return (now - before) / elapsed
