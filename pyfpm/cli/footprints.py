"""What `pyfpm memory` prints: who has how much of a pool's memory, and what one more worker would cost.

Runs in: an operator's shell.   Pure: no system call, no clock, no log.
Fails by: nothing; what may not be read is "?", with the reason below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyfpm.cli.tables import Column, lay_out
from pyfpm.cli.units import show_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyfpm.cli.processes import Weight


class Footprint(NamedTuple):
    """A process and its memory. `role` is master, template or worker."""

    pool: str
    role: str
    pid: int
    weight: Weight

    def members(self) -> dict[str, object]:
        """For JSON."""
        return {"pid": self.pid, **self.weight._asdict(), "shared": self.weight.shared}


class PoolFootprint(NamedTuple):
    """A pool's template, if it has one, and its workers."""

    pool: str
    template: Footprint | None
    workers: Sequence[Footprint]

    @property
    def pss(self) -> int | None:
        """What the pool costs; None unless it is known of every process."""
        return _sum(one.weight.pss for one in self.processes())

    @property
    def one_more(self) -> int | None:
        """What an additional worker would cost: what the others have for themselves, on average."""
        private = _sum(one.weight.private for one in self.workers)
        return private // len(self.workers) if private is not None and self.workers else None

    def processes(self) -> list[Footprint]:
        return [*([self.template] if self.template else []), *self.workers]

    def members(self) -> dict[str, object]:
        """For JSON."""
        return {
            "pool": self.pool,
            "pss": self.pss,
            "one_more_worker": self.one_more,
            "template": self.template.members() if self.template else None,
            "workers": [one.members() for one in self.workers],
        }


_COLUMNS = (
    Column[Footprint]("POOL", lambda one: one.pool, is_text=True),
    Column[Footprint]("PROCESS", lambda one: one.role, is_text=True),
    Column[Footprint]("PID", lambda one: str(one.pid)),
    Column[Footprint]("PSS", lambda one: show_bytes(one.weight.pss)),
    Column[Footprint]("PRIVATE", lambda one: show_bytes(one.weight.private)),
    Column[Footprint]("SHARED", lambda one: show_bytes(one.weight.shared)),
    Column[Footprint]("RSS", lambda one: show_bytes(one.weight.rss)),
    Column[Footprint]("PEAK", lambda one: show_bytes(one.weight.peak)),
)


def tell(master: Footprint, pools: Sequence[PoolFootprint]) -> list[str]:
    """The table of all processes, then a line for each pool, then what could not be seen and why."""
    processes = [master, *(one for pool in pools for one in pool.processes())]
    lines = [*lay_out(_COLUMNS, processes), ""]
    lines += map(_sum_up, pools)
    if len(pools) > 1:
        total = _sum([master.weight.pss, *(pool.pss for pool in pools)])
        lines.append(f"in all: {show_bytes(total)}, the master included")
    reasons = sorted({f"?: {one.weight.reason}" for one in processes if one.weight.reason})
    return [*lines, *reasons]


def _sum_up(pool: PoolFootprint) -> str:
    if not pool.processes():
        return f"{pool.pool}: nobody is there"
    count = f"{len(pool.workers)} worker{'s' * (len(pool.workers) != 1)}"
    template = " and the template" if pool.template else ""
    more = f"; one more would cost about {show_bytes(pool.one_more)}" if pool.one_more is not None else ""
    return f"{pool.pool}: {show_bytes(pool.pss)} for {count}{template}{more}"


def _sum(amounts: Iterable[int | None]) -> int | None:
    total = 0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
