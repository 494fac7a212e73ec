"""The tables of the page for people: all pools, and the workers of one.

Runs in: worker or monitor that answers a status request, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing.

A cell's `data-v` is what its column is sorted by, where that is not the text; `data-key` is what a row is known by when
the page is made again.
"""

from __future__ import annotations

from pyfpm.status import amounts
from pyfpm.status.concerns import BAD, ODD, is_busy, is_long, state_of, worst
from pyfpm.status.icons import icon
from pyfpm.status.markup import escape
from pyfpm.status.sparkline import traffic, traffic_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfpm.status.concerns import Concern
    from pyfpm.status.snapshot import Process, Snapshot

BUSY_FIRST = 10**13  # microseconds, 115 days: a request in hand stands before any that is over

_POOL_COLUMNS = ("Pool", "State", "Busy", "Requests/s", "Waiting", "Slow", "Memory")
_OF_WORDS = ("Pool", "State", "PID", "Request")  # the other columns are of numbers


def pools_table(looked: list[tuple[Snapshot, list[Concern]]]) -> str:
    """A row for each pool, with the way to it."""
    rows = "".join([_pool_row(place, pool, concerns) for place, (pool, concerns) in enumerate(looked)])
    return (
        '<section aria-labelledby="overview"><h2 id="overview">Pools</h2><table class="pools" data-key="pools">'
        '<caption class="unseen">All pools</caption>'
        + _head(_POOL_COLUMNS, unsorted="Traffic")
        + f"<tbody>{rows}</tbody></table></section>\n"
    )


def _pool_row(place: int, pool: Snapshot, concerns: list[Concern]) -> str:
    weight, per_second = worst(concerns), traffic(pool)
    name = escape(pool.pool)
    cells = [
        f'<td data-v="{("good", ODD, BAD).index(weight)}" class="state {weight}">{icon(weight)}{state_of(pool)}</td>',
        _number(pool.active_processes, f"{pool.active_processes} of {amounts.count(pool.max_children)}"),
        _number(per_second, amounts.rate(per_second)),
        _number(pool.listen_queue, amounts.count(pool.listen_queue)),
        _number(pool.slow_requests, amounts.count(pool.slow_requests)),
        _number(pool.memory, amounts.size(pool.memory)),
        f'<td class="drawn">{traffic_line(pool)}</td>',
    ]
    link = f'<th scope="row"><a href="#pool-{place}">{name}</a></th>'
    return f'<tr data-key="{name}">{link}{"".join(cells)}</tr>'


def _number(value: float | None, text: str) -> str:
    return f'<td class="n" data-v="{-1 if value is None else value}">{text}</td>'


def _head(names: Sequence[str], sorted_by: str = "", unsorted: str = "") -> str:
    """Column heads; the script makes buttons of them that sort. `unsorted` is a last column that has no order."""
    cells = []
    for name in names:
        kind = "" if name in _OF_WORDS else ' class="n"'
        order = ' aria-sort="descending"' if name == sorted_by else ""
        cells.append(f'<th scope="col" data-sort{kind}{order}>{name}</th>')
    if unsorted:
        cells.append(f'<th scope="col">{unsorted}</th>')
    return f"<thead data-own><tr>{''.join(cells)}</tr></thead>"


# ── its workers ─────────────────────────────────────────────────────────────────────────────────────────────────────

_WORKER_COLUMNS = ("PID", "State", "Duration", "Request", "Served", "Age", "CPU", "Memory", "Peak")
_ROW = (
    '<tr class="%s" data-key="%d"><th scope="row">%d</th>'
    '<td>%s%s</td><td class="n" data-v="%d">%s</td><td class="request">%s</td><td class="n" data-v="%d">%s</td>'
    '<td class="n" data-v="%d">%s</td><td class="n" data-v="%g">%s</td><td class="n" data-v="%d">%s</td>'
    '<td class="n" data-v="%d">%s</td></tr>\n'
)


def workers_table(pool: Snapshot) -> str:
    """A row for each worker, the longest request first."""
    if not pool.processes:
        return '<p class="nobody">No worker at this moment.</p>'
    processes = sorted(pool.processes, key=_rank, reverse=True)
    requests = _requests(processes)
    rows = "".join([_ROW % _row(one, request, pool.generation) for one, request in zip(processes, requests)])
    caption = f"{amounts.many(len(processes), 'worker', 'workers')} of {escape(pool.pool)}"
    head = _head(_WORKER_COLUMNS, sorted_by="Duration")
    return f'<table class="workers" data-key="workers"><caption>{caption}</caption>{head}<tbody>{rows}</tbody></table>'


def _rank(process: Process) -> int:
    """Long-running first, then the others by how long their last request took."""
    return int(process.request_duration) + BUSY_FIRST * is_busy(process)


def _row(process: Process, request: str, generation: int | None) -> tuple[object, ...]:
    idle = process.state == "Idle"
    kind = "idle" if idle else "odd" if is_long(process) else "busy"
    old = ", old code" if generation is not None and process.generation != generation else ""
    return (
        kind,
        process.pid,
        process.pid,
        icon(kind),
        process.state + old,
        _rank(process),
        amounts.duration(process.request_duration / 1e6),
        request,
        process.requests,
        amounts.count(process.requests),
        process.start_since,
        amounts.age(process.start_since),
        process.last_request_cpu,
        f"{process.last_request_cpu:.0f} %" if idle else amounts.UNKNOWN,
        process.pss or -1,
        amounts.size(process.pss),
        process.last_request_memory,
        amounts.size(process.last_request_memory or None),
    )


def _requests(processes: Sequence[Process]) -> list[str]:
    """How each one's request is shown. No text has a line end, so all are escaped in one go."""
    texts = [f"{one.request_method}\n{one.request_uri}\n{one.user}" for one in processes]
    escaped = iter(escape("\n".join(texts)).split("\n"))
    return [
        _request(method, uri, user, process.state == "Idle")
        for process, method, uri, user in zip(processes, escaped, escaped, escaped)
    ]


def _request(method: str, uri: str, user: str, idle: bool) -> str:
    """Method and URI, and whose; a long one is cut by the style, and whole in the title."""
    if uri == "-":
        return amounts.UNKNOWN
    whose = "" if user == "-" else f' <span class="user">{user}</span>'
    last = '<span class="last">last</span> ' if idle else ""
    return f'<span class="cut" title="{uri}">{last}<b>{method}</b> <bdi>{uri}</bdi>{whose}</span>'
