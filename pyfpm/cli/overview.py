"""What `pyfpm status` prints: a line for each pool, or with --full all that is known of each, and its workers.

Runs in: an operator's shell.   Pure: no system call, no clock, no log.
Fails by: nothing; what is not known is "?".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfpm.cli.tables import Column, lay_out
from pyfpm.cli.units import UNKNOWN, show_bytes, show_count, show_seconds, show_share
from pyfpm.status.reports import PoolReport, WorkerReport, printable

if TYPE_CHECKING:
    from collections.abc import Iterator


def note_of(pool: PoolReport) -> str:
    """What keeps it from doing what it wants to, or how its last reload went: the first line."""
    return (pool.trouble or pool.reload).partition("\n")[0]


def state_of(worker: WorkerReport) -> str:
    return f"{worker.state}, leaving" if worker.leaving else worker.state


def request_of(worker: WorkerReport) -> str:
    """The request in hand, or in brackets the last one."""
    return worker.request if worker.is_busy or not worker.request else f"({worker.request})"


POOL_COLUMNS = (
    Column[PoolReport]("POOL", lambda pool: pool.pool, is_text=True),
    Column[PoolReport]("PM", lambda pool: pool.pm, is_text=True, rank=7),
    Column[PoolReport]("STATE", lambda pool: pool.state, is_text=True),
    Column[PoolReport]("GEN", lambda pool: str(pool.generation), rank=8),
    Column[PoolReport]("IDLE", lambda pool: str(pool.idle)),
    Column[PoolReport]("BUSY", lambda pool: str(pool.busy)),
    Column[PoolReport]("TOTAL", lambda pool: str(pool.total), rank=9),
    Column[PoolReport]("MAX", lambda pool: str(pool.max)),
    Column[PoolReport]("PEAK", lambda pool: str(pool.peak), rank=6),
    Column[PoolReport]("5MIN", lambda pool: show_share(pool.busy_5m), rank=5),
    Column[PoolReport]("QUEUE", lambda pool: show_count(pool.queue)),
    Column[PoolReport]("REQUESTS", lambda pool: str(pool.requests), rank=1),
    Column[PoolReport]("SLOW", lambda pool: str(pool.slow), rank=2),
    Column[PoolReport]("TIMEOUT", lambda pool: show_count(pool.timed_out), rank=4),
    Column[PoolReport]("SHED", lambda pool: show_count(pool.shed), rank=4),
    Column[PoolReport]("RESTARTS", lambda pool: str(pool.died), rank=3),
    Column[PoolReport]("NOTE", note_of, is_text=True, least=20),
)
WORKER_COLUMNS = (
    Column[WorkerReport]("PID", lambda worker: str(worker.pid)),
    Column[WorkerReport]("STATE", state_of, is_text=True),
    Column[WorkerReport]("AGE", lambda worker: show_seconds(worker.age), rank=4),
    Column[WorkerReport]("GEN", lambda worker: str(worker.generation), rank=6),
    Column[WorkerReport]("REQUESTS", lambda worker: str(worker.requests), rank=5),
    Column[WorkerReport]("FOR", lambda worker: show_seconds(worker.elapsed) if worker.is_busy else "-"),
    Column[WorkerReport]("CPU", lambda worker: _percent(worker.cpu), rank=3),
    Column[WorkerReport]("PSS", lambda worker: show_bytes(worker.pss), rank=1),
    Column[WorkerReport]("PEAK", lambda worker: show_bytes(worker.peak), rank=2),
    Column[WorkerReport]("REQUEST", request_of, is_text=True, least=32),
)


def in_full(pool: PoolReport, workers: list[WorkerReport], wall: float, room: int | None) -> Iterator[str]:
    """A paragraph on the pool at `wall` seconds since 1970, then the table of its workers."""
    reload = "not reloaded yet"
    if pool.reload_time is not None:
        reload = f"reloaded {show_seconds(max(0.0, wall - pool.reload_time))} ago"
    since = f"up for {show_seconds(pool.uptime)}, {reload}"
    yield printable(f"{pool.pool}: {pool.state}, pm = {pool.pm}, generation {pool.generation}, {since}")
    for name, text in _facts(pool):
        for number, line in enumerate(text.splitlines()):
            yield f"  {name if not number else '':<10} {printable(line)}"
    yield ""
    yield from (f"  {line}" for line in lay_out(WORKER_COLUMNS, workers, None if room is None else room - 2))


def _facts(pool: PoolReport) -> Iterator[tuple[str, str]]:
    yield "workers", f"{pool.idle} idle, {pool.busy} busy, {pool.total} in all; at most {pool.peak} busy of {pool.max}"
    shares = [show_share(share) for share in (pool.busy_1m, pool.busy_5m, pool.busy_15m)]
    reached = f"; too few workers {show_count(pool.max_reached)} times"
    yield "busy", f"{shares[0]} over 1 minute, {shares[1]} over 5, {shares[2]} over 15{reached}"
    waiting = f"{show_count(pool.queue)} waiting, at most {show_count(pool.queue_max)}"
    yield "queue", f"{waiting}; room for {show_count(pool.queue_limit)}"
    slow = f"{pool.slow} slow ({_limit(pool.slow_after, 'over')})"
    ended = f"{show_count(pool.timed_out)} ended ({_limit(pool.ended_after, 'over')})"
    yield "requests", f"{pool.requests} answered, {slow}, {ended}, {show_count(pool.shed)} shed"
    yield "restarts", f"{pool.recycled} recycled ({_recycling(pool)}), {pool.crashed} crashed, {pool.killed} killed"
    pid = f", pid {pool.template_pid}" if pool.template_pid else ""
    yield "template", f"{pool.template or UNKNOWN}{pid}"
    if pool.reload:
        yield "reload", pool.reload
    if pool.trouble:
        yield "trouble", pool.trouble


def _limit(seconds: float | None, word: str) -> str:
    if seconds is None:
        return UNKNOWN
    return f"{word} {seconds:g}s" if seconds else "no limit"


def _recycling(pool: PoolReport) -> str:
    limits = []
    if pool.max_requests:
        limits.append(f"after {pool.max_requests} requests")
    if pool.max_memory:
        limits.append(f"above {show_bytes(pool.max_memory)}")
    if pool.max_lifetime:
        limits.append(f"after {show_seconds(pool.max_lifetime)}")
    return ", ".join(limits) or "no limit"


def _percent(percent: float | None) -> str:
    return show_share(None if percent is None else percent / 100)
