"""Snapshots as metrics: in names of our own, or in those that dashboards for PHP-FPM look for.

Runs in: whoever answers a status request, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing.

Two notations: OpenMetrics 1.0, and the older text format 0.0.4 of Prometheus. Our own names have base units and
counters that end in `_total`. Those of PHP-FPM and its exporters do not, so they are given as of unknown type: that is
valid OpenMetrics, and a dashboard asks for names only. Every sample has the label `pool`, which PHP-FPM's lack. What is
unknown has no sample.
"""

from __future__ import annotations

from itertools import accumulate

from pyfpm.facts import TEMPLATES
from pyfpm.histogram import BOUNDS, SUM
from pyfpm.scoreboard import CREATING, STAGE_NAMES
from pyfpm.status.snapshot import RELOADED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyfpm.status.snapshot import Process, Snapshot

    # (name, type, help, and what gives the value, the samples by their labels, or the cells of a histogram)
    Family = tuple[str, str, str, Callable[[Any], Any]]

GAUGE, COUNTER, HISTOGRAM, ANY = "gauge", "counter", "histogram", "unknown"
PREFIX = "pyfpm_"
PHP_PREFIX = "phpfpm_"
STATES = STAGE_NAMES[CREATING:]
_LES = [f'le="{bound}"' for bound in (*BOUNDS, "+Inf")]


def exposition(pools: Sequence[Snapshot], full: bool, php_names: bool, is_openmetrics: bool) -> str:
    """The whole text: each family once, with the samples of all pools."""
    prefix = PHP_PREFIX if php_names else PREFIX
    lines: list[str] = []
    for name, kind, text, value in _PHP if php_names else _OWN:
        lines += _head(prefix + name, kind, text, is_openmetrics)
        for pool in pools:
            lines += _samples(prefix + name, kind, f'pool="{_escape(pool.pool)}"', value(pool))
    if full:
        lines += _of_processes(pools, php_names, is_openmetrics)
    return "\n".join([*lines, *(["# EOF"] if is_openmetrics else []), ""])


def _head(name: str, kind: str, text: str, is_openmetrics: bool) -> list[str]:
    """TYPE, UNIT and HELP. The older notation names a counter as its samples, and has no units."""
    if not is_openmetrics:
        name = name + "_total" if kind == COUNTER else name
        return [f"# HELP {name} {text}", f"# TYPE {name} {'untyped' if kind == ANY else kind}"]
    lines = [f"# TYPE {name} {kind}", f"# HELP {name} {text}"]
    for unit in ("bytes", "seconds"):
        if name.endswith("_" + unit):
            lines.insert(1, f"# UNIT {name} {unit}")
    return lines


def _samples(name: str, kind: str, labels: str, value: Any) -> list[str]:
    if value is None:
        return []
    if kind == HISTOGRAM:
        return _histogram(name, labels, value)
    if kind == COUNTER:
        name += "_total"
    if isinstance(value, dict):
        return [f"{name}{{{labels},{more}}} {one}" for more, one in value.items() if one is not None]
    return [f"{name}{{{labels}}} {value}"]


def _histogram(name: str, labels: str, cells: Sequence[int]) -> list[str]:
    """Each bucket counts what is in those below it, too; its last is the count of all."""
    counts = list(accumulate(cells[:SUM]))
    lines = [f"{name}_bucket{{{labels},{le}}} {count}" for le, count in zip(_LES, counts)]
    return [*lines, f"{name}_sum{{{labels}}} {cells[SUM] / 1e9}", f"{name}_count{{{labels}}} {counts[-1]}"]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# ── workers: a thousand of them are written in milliseconds, so all of a family is one comprehension ────────────────


def _of_processes(pools: Sequence[Snapshot], php_names: bool, is_openmetrics: bool) -> list[str]:
    prefix = PHP_PREFIX + "process_" if php_names else PREFIX + "worker_"
    rows = _php_rows(pools) if php_names else _own_rows(pools)
    lines: list[str] = []
    for name, kind, text, value in _PHP_PROCESS if php_names else _OWN_PROCESS:
        lines += _head(prefix + name, kind, text, is_openmetrics)
        start = f"{prefix}{name}{'_total' if kind == COUNTER else ''}{{"
        lines += [
            f"{start}{labels}}} {one}" for labels, one in [(row[0], value(row[1])) for row in rows] if one is not None
        ]
    lines += _head(prefix + "state", GAUGE, "1 for the state that a worker is in.", is_openmetrics)
    patterns = {state: _states_of(prefix + "state", state) for state in STATES}
    lines += [patterns[process.state].replace("\0", labels) for labels, process in rows if process.state in patterns]
    return lines


def _states_of(name: str, current: str) -> str:
    """The samples of a worker in state `current`, with NUL for its labels."""
    return "\n".join([f'{name}{{\0,state="{state}"}} {int(state == current)}' for state in STATES])


def _own_rows(pools: Sequence[Snapshot]) -> list[tuple[str, Process]]:
    """By pid. Two slots may claim one; two samples of one name would spoil the answer for all pools."""
    rows = []
    for pool in pools:
        start = f'pool="{_escape(pool.pool)}",pid="'
        rows += [(f'{start}{pid}"', process) for pid, process in {one.pid: one for one in pool.processes}.items()]
    return rows


def _php_rows(pools: Sequence[Snapshot]) -> list[tuple[str, Process]]:
    """By the place in the list, as the hipages exporter has them."""
    rows = []
    for pool in pools:
        start = f'pool="{_escape(pool.pool)}",child="'
        rows += [(f'{start}{place}"', process) for place, process in enumerate(pool.processes)]
    return rows


# ── the families ────────────────────────────────────────────────────────────────────────────────────────────────────


def _by(label: str, **values: float | None) -> dict[str, float | None]:
    return {f'{label}="{name}"': value for name, value in values.items()}


_OWN: tuple[Family, ...] = (
    ("up", GAUGE, "Whether the status of the pool is known.", lambda _: 1),
    ("start_time_seconds", GAUGE, "When the pool was started, in seconds since 1970.", lambda pool: pool.start_time),
    ("requests", COUNTER, "Requests that workers have begun.", lambda pool: pool.accepted_conn),
    ("request_duration_seconds", HISTOGRAM, "How long requests have taken.", lambda pool: pool.durations),
    ("request_queue_seconds", HISTOGRAM, "How long requests had waited before.", lambda pool: pool.waits),
    ("listen_queue", GAUGE, "Connections that wait to be accepted.", lambda pool: pool.listen_queue),
    ("listen_queue_max", GAUGE, "The most connections that were seen waiting.", lambda pool: pool.max_listen_queue),
    ("listen_queue_limit", GAUGE, "How many connections may wait.", lambda pool: pool.listen_queue_len),
    (
        "workers",
        GAUGE,
        "Workers by what they do.",
        lambda pool: _by("state", idle=pool.idle_processes, active=pool.active_processes),
    ),
    ("workers_active_max", GAUGE, "The most workers that were seen active.", lambda pool: pool.max_active_processes),
    ("workers_limit", GAUGE, "The most workers that the pool may have.", lambda pool: pool.max_children),
    (
        "workers_limit_reached",
        COUNTER,
        "Times that more workers were needed than may be.",
        lambda pool: pool.max_children_reached,
    ),
    (
        "workers_gone",
        COUNTER,
        "Workers that were recycled, crashed, or had to be killed.",
        lambda pool: _by(
            "reason",
            recycled=pool.recycled_processes,
            crashed=pool.crashed_processes,
            killed=pool.killed_processes,
        ),
    ),
    (
        "slow_requests",
        COUNTER,
        "Requests that took longer than request_slowlog_timeout.",
        lambda pool: pool.slow_requests,
    ),
    (
        "requests_timed_out",
        COUNTER,
        "Requests that were ended by request_terminate_timeout.",
        lambda pool: pool.timed_out_requests,
    ),
    (
        "requests_shed",
        COUNTER,
        "Requests that were refused because they had waited longer than request_queue_timeout.",
        lambda pool: pool.shed_requests,
    ),
    (
        "busy_ratio",
        GAUGE,
        "Share of the most workers that was at work, over some minutes.",
        lambda pool: _by("over", **{"1m": pool.busy_share_1m, "5m": pool.busy_share_5m, "15m": pool.busy_share_15m}),
    ),
    (
        "memory_bytes",
        GAUGE,
        "The memory of its workers, each with its share of what is shared.",
        lambda pool: pool.memory,
    ),
    (
        "memory_peak_bytes",
        GAUGE,
        "The most memory that any worker has had resident.",
        lambda pool: pool.memory_peak,
    ),
    (
        "generation",
        GAUGE,
        "How often the application was loaded by a reload, counted from 1.",
        lambda pool: pool.generation,
    ),
    (
        "template_state",
        GAUGE,
        "1 for the state that the template is in.",
        lambda pool: pool.template and _by("state", **{state: int(state == pool.template) for state in TEMPLATES}),
    ),
    (
        "last_reload_success",
        GAUGE,
        "Whether the last reload went well.",
        lambda pool: None if pool.last_reload_time is None else int(pool.last_reload == RELOADED),
    ),
    (
        "last_reload_time_seconds",
        GAUGE,
        "When it ended, in seconds since 1970.",
        lambda pool: pool.last_reload_time,
    ),
)

_OWN_PROCESS: tuple[Family, ...] = (
    ("start_time_seconds", GAUGE, "When it was started, in seconds since 1970.", lambda one: one.start_time),
    ("requests", COUNTER, "Requests that it has begun.", lambda one: one.requests),
    (
        "request_duration_seconds",
        GAUGE,
        "How long the request in hand, or the last one, has taken.",
        lambda one: one.request_duration / 1e6,
    ),
    (
        "last_request_cpu_ratio",
        GAUGE,
        "CPU time of the last request by its duration.",
        lambda one: one.last_request_cpu / 100 or None,
    ),
    (
        "memory_peak_bytes",
        GAUGE,
        "The most memory that it has had resident.",
        lambda one: one.last_request_memory or None,
    ),
    ("pss_bytes", GAUGE, "Its memory, with its share of what it shares with others.", lambda one: one.pss),
)

# Those of PHP-FPM's own page, with its words; `openmetrics` of PHP-FPM 8.2 and later.
_PHP: tuple[Family, ...] = (
    ("up", GAUGE, "Whether the status of the pool is known.", lambda _: 1),
    ("start_since", ANY, "The number of seconds since FPM has started.", lambda pool: pool.start_since),
    ("accepted_connections", ANY, "The number of requests accepted by the pool.", lambda pool: pool.accepted_conn),
    (
        "listen_queue",
        GAUGE,
        "The number of requests in the queue of pending connections.",
        lambda pool: pool.listen_queue,
    ),
    (
        "max_listen_queue",
        ANY,
        "The maximum number of requests in the queue of pending connections since FPM has started.",
        lambda pool: pool.max_listen_queue,
    ),
    (
        "listen_queue_length",
        GAUGE,
        "The size of the socket queue of pending connections.",
        lambda pool: pool.listen_queue_len,
    ),
    ("idle_processes", GAUGE, "The number of idle processes.", lambda pool: pool.idle_processes),
    ("active_processes", GAUGE, "The number of active processes.", lambda pool: pool.active_processes),
    ("total_processes", GAUGE, "The number of idle + active processes.", lambda pool: pool.total_processes),
    (
        "max_active_processes",
        ANY,
        "The maximum number of active processes since FPM has started.",
        lambda pool: pool.max_active_processes,
    ),
    (
        "max_children_reached",
        ANY,
        "The number of times, the process limit has been reached.",
        lambda pool: pool.max_children_reached,
    ),
    (
        "slow_requests",
        ANY,
        "The number of requests that exceeded your 'request_slowlog_timeout' value.",
        lambda pool: pool.slow_requests,
    ),
    ("memory_peak", GAUGE, "The memory usage peak since FPM has started.", lambda pool: pool.memory_peak),
)

# And those of the hipages exporter.
_PHP_PROCESS: tuple[Family, ...] = (
    ("requests", ANY, "The number of requests the process has served.", lambda one: one.requests),
    (
        "last_request_memory",
        GAUGE,
        "The max amount of memory the last request consumed.",
        lambda one: one.last_request_memory,
    ),
    ("last_request_cpu", GAUGE, "The %cpu the last request consumed.", lambda one: one.last_request_cpu),
    ("request_duration", GAUGE, "The duration in microseconds of the requests.", lambda one: one.request_duration),
)
