"""How a pool and its workers are, as a command is told.

Runs in: master.
Fails by: nothing. Of a pool it tells what it knows itself; of a worker what that has written in its slot, which is
gossip, and whose texts are made harmless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfpm.messages import Speaker
from pyfpm.status.reports import PoolReport, WorkerReport
from pyfpm.status.snapshot import process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyfpm.master.children import Child
    from pyfpm.master.generation import Generation
    from pyfpm.master.pools import Pool

UNKNOWN = "Unknown"  # the state of a worker of the image before this one: its scoreboard is lost


def report_on(pool: Pool, now: float) -> PoolReport:
    current, settings, figures = pool.current, pool.settings, pool.figures
    census = current.census()
    total = figures.totals(pool)
    queue = pool.queue()
    template = current.templates.current
    busy_1m, busy_5m, busy_15m = figures.shares
    return PoolReport(
        pool=pool.name,
        pm=settings.pm,
        state=pool.state,
        generation=current.number,
        idle=census.idle,
        busy=census.busy,
        total=pool.processes(),
        max=settings.pm_max_children,
        requests=total.requests,
        queue=None if queue is None else queue.waiting,
        peak=max(figures.max_active, census.busy),
        slow=total.slow,
        recycled=total.recycled,
        crashed=total.crashed,
        killed=total.killed,
        reload=pool.last_reload,
        trouble=pool.trouble,
        uptime=figures.age(now),
        reload_time=figures.reload_time,
        queue_max=figures.queue_max,
        queue_limit=None if queue is None else queue.limit,
        max_reached=pool.times_at_limit,
        timed_out=total.timed_out,
        shed=total.shed,
        busy_1m=busy_1m,
        busy_5m=busy_5m,
        busy_15m=busy_15m,
        template=current.templates.state,
        template_pid=template.pid if template is not None else None,
        memory_peak=total.memory_peak or None,
        max_requests=settings.pm_max_requests,
        max_memory=settings.pm_max_memory.bytes,
        max_lifetime=settings.pm_max_lifetime,
        slow_after=settings.request_slowlog_timeout,
        ended_after=settings.request_terminate_timeout,
    )


def workers_of(pool: Pool) -> Iterator[tuple[Generation, Child]]:
    """The workers that are born, of all generations."""
    for generation in pool.generations():
        for child in generation.children:
            if child.pid:
                yield generation, child


def report_on_worker(generation: Generation, child: Child, now: float) -> WorkerReport:
    """Its pid and generation are the master's own knowledge, all else is what its slot says."""
    seen = process(generation.scoreboard.read_whole(child.slot), generation.settings.app, 0.0, int(now * 1e9))
    return WorkerReport(
        pool=generation.name,
        pid=child.pid,
        state=UNKNOWN if child.speaker is Speaker.INHERITED_WORKER else seen.state,
        age=seen.start_since,
        generation=generation.number,
        requests=seen.requests,
        elapsed=seen.request_duration / 1e6,
        method=seen.request_method,
        uri=seen.request_uri,
        leaving=child.leaving_since is not None,
        cpu=seen.last_request_cpu if seen.last_request_memory else None,
        pss=seen.pss,
        peak=seen.last_request_memory or None,
    )
