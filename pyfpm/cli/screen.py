"""The screen of `pyfpm top`: what is known, what is wanted and a size in; lines with styles out.

Runs in: an operator's shell.   Pure: no system call, no clock, no log.
Fails by: nothing; on a screen too small for it, less is shown.

    pyfpm 0.1.0, pid 812: 3 pools, 6 busy, 12 idle, 38.2 req/s          every 2s
      POOL  STATE    BUSY  IDLE  MAX  5MIN  REQ/S  QUEUE  …  NOTE
    ! www   serving     5     0    5   98%    0.0      3
    …
        PID  POOL  STATE      FOR   CPU    MEM  REQUEST
    >  1234  www   Running  12.3s  100%  21.3M  GET /report?year=2026
    …
    q quit  s stacks  p pool  / filter  <> order: time  …

No style is the only sign of anything: what is selected has a ">", trouble a "!".
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from pyfpm import __version__
from pyfpm.cli.overview import note_of, request_of
from pyfpm.cli.picture import Picture, Pool, Worker
from pyfpm.cli.steering import Steering, chosen
from pyfpm.cli.tables import Column, lay_out
from pyfpm.cli.units import UNKNOWN, fit, show_bytes, show_count, show_seconds, show_share, width_of
from pyfpm.status.reports import printable

if TYPE_CHECKING:
    from collections.abc import Iterable


class Style(enum.Enum):
    """How a line looks, if the terminal can."""

    PLAIN = "plain"
    TITLE = "bold"
    HEAD = "underlined"
    SELECTED = "reversed"
    TROUBLE = "red"
    SLOW = "yellow"
    QUIET = "dim"


class Line(NamedTuple):
    """A line of the screen."""

    text: str
    style: Style = Style.PLAIN


def _rate(pool: Pool) -> str:
    return UNKNOWN if pool.rate is None else f"{pool.rate:.1f}"


def _memory(worker: Worker) -> str:
    """The share that counts (PSS), or what it is at most."""
    if worker.report.pss is not None or worker.resident is None:
        return show_bytes(worker.report.pss)
    return f"<{show_bytes(worker.resident)}"


POOL_COLUMNS = (
    Column[Pool]("POOL", lambda pool: pool.report.pool, is_text=True),
    Column[Pool]("STATE", lambda pool: pool.report.state, is_text=True, least=7),
    Column[Pool]("BUSY", lambda pool: str(pool.report.busy)),
    Column[Pool]("IDLE", lambda pool: str(pool.report.idle)),
    Column[Pool]("MAX", lambda pool: str(pool.report.max)),
    Column[Pool]("5MIN", lambda pool: show_share(pool.report.busy_5m), rank=1),
    Column[Pool]("REQ/S", _rate, least=6),
    Column[Pool]("QUEUE", lambda pool: show_count(pool.report.queue)),
    Column[Pool]("SLOW", lambda pool: str(pool.report.slow), rank=2),
    Column[Pool]("TIMEOUT", lambda pool: show_count(pool.report.timed_out), rank=3),
    Column[Pool]("SHED", lambda pool: show_count(pool.report.shed), rank=4),
    Column[Pool]("RESTARTS", lambda pool: str(pool.report.died), rank=5),
    Column[Pool]("NOTE", lambda pool: note_of(pool.report), is_text=True, least=20),
)
WORKER_COLUMNS = (
    Column[Worker]("PID", lambda one: str(one.report.pid), least=7),
    Column[Worker]("POOL", lambda one: one.report.pool, is_text=True),
    Column[Worker]("STATE", lambda one: one.state, is_text=True, least=9),
    Column[Worker]("FOR", lambda one: show_seconds(one.report.elapsed) if one.report.is_busy else "-", least=6),
    Column[Worker]("CPU", lambda one: show_share(one.cpu), rank=1, least=4),
    Column[Worker]("MEM", _memory, rank=2, least=6),
    Column[Worker]("AGE", lambda one: show_seconds(one.report.age), rank=4, least=6),
    Column[Worker]("REQUESTS", lambda one: str(one.report.requests), rank=3),
    Column[Worker]("REQUEST", lambda one: request_of(one.report), is_text=True, least=32),
)
HELP = (
    "The pools are above, their workers below.",
    "",
    "  up down j k  select a worker; page up, page down, home, end",
    "  enter, s     where this worker is now: its stacks; s again: anew",
    "  p            only the pool of this worker, or all again",
    "  tab          only the next pool",
    "  /            only workers with this text in pid, pool, state or request",
    "  escape       all again",
    "  < >          order by time, cpu, memory, requests, pool, pid",
    "  + - r        look less often, more often, now",
    "  space q      pause, quit",
    "",
    "  5MIN   share of MAX at work over five minutes     ?  it is not known",
    "  FOR    how long the request takes by now          (GET /x)  the last one",
    "  CPU    of one processor, since the last look",
    "  MEM    what is shared counts in parts (PSS); with < it is less than that",
    "  !      a pool in trouble or without a free worker; a request that is over",
    "         the slow log's limit; a worker that is stopped",
)
_MARK = 2  # cells for the mark at the left


def render(picture: Picture, steering: Steering, width: int, height: int) -> list[Line]:
    """`height` lines, none of which is wider than `width` or has a character that a terminal would obey."""
    lines = [_title(picture, steering, width)]
    if picture.fault:
        lines.append(Line(f"! {picture.fault}", Style.TROUBLE))
    if steering.has_help:
        lines += [Line(text) for text in HELP]
        foot = Line("any key: back", Style.QUIET)
    elif steering.stacks:
        room = max(1, height - len(lines) - 1)
        lines += [Line(text) for text in steering.stacks[steering.scroll :][:room]]
        foot = Line("q back  s again  up down scroll", Style.QUIET)
    else:
        lines += _pools(picture, steering, width, max(3, height // 3))
        lines.append(Line(""))
        lines += _workers(picture, steering, width, height - len(lines) - 1)
        foot = _foot(steering)
    lines = lines[: height - 1]
    lines += [Line("")] * (height - 1 - len(lines))
    return [_fitted(line, width) for line in [*lines, foot][-height:]]


def _fitted(line: Line, width: int) -> Line:
    text = fit(printable(line.text), width)
    if line.style in (Style.HEAD, Style.SELECTED):  # a bar, from one side to the other
        text += " " * (width - width_of(text))
    return Line(text, line.style)


def _title(picture: Picture, steering: Steering, width: int) -> Line:
    pools = [pool.report for pool in picture.pools]
    busy, idle = sum(pool.busy for pool in pools), sum(pool.idle for pool in pools)
    rates = [pool.rate for pool in picture.pools if pool.rate is not None]
    rate = f"{sum(rates):.1f}" if rates else UNKNOWN
    pid = f", pid {picture.master}" if picture.master else ""
    count = f"{len(pools)} pool{'' if len(pools) == 1 else 's'}"
    left = f"pyfpm {__version__}{pid}: {count}, {busy} busy, {idle} idle, {rate} req/s"
    right = "PAUSED" if steering.paused else f"every {steering.interval:g}s"
    space = max(2, width - width_of(left) - len(right))
    return Line(f"{left}{' ' * space}{right}", Style.TITLE)


def _pools(picture: Picture, steering: Steering, width: int, room: int) -> Iterable[Line]:
    """Those in trouble first, then the busiest; what there is no room for is counted."""
    pools = sorted(
        (pool for pool in picture.pools if not steering.pool or pool.report.pool == steering.pool),
        key=lambda pool: (not pool.is_in_trouble, -(pool.report.busy / pool.report.max), pool.report.pool),
    )
    shown = pools if len(pools) < room else pools[: room - 2]
    head, *rows = lay_out(POOL_COLUMNS, shown, width - _MARK)
    yield Line(f"  {head}", Style.HEAD)
    for pool, row in zip(shown, rows, strict=True):
        yield Line(f"! {row}", Style.TROUBLE) if pool.is_in_trouble else Line(f"  {row}")
    if len(shown) < len(pools):
        yield Line(f"  and {len(pools) - len(shown)} pools more; tab shows one after the other", Style.QUIET)


def _workers(picture: Picture, steering: Steering, width: int, room: int) -> Iterable[Line]:
    """As many as there is room for, the selected one among them."""
    workers = chosen(picture, steering)
    room = max(1, room - 1)
    first = max(0, min(steering.index - room // 2, len(workers) - room))
    shown = workers[first : first + room]
    head, *rows = lay_out(WORKER_COLUMNS, shown, width - _MARK)
    yield Line(f"  {head}", Style.HEAD)
    for one, row in zip(shown, rows, strict=True):
        mark = "!" if one.is_slow or one.held else " "
        if one.report.pid == steering.selected:
            yield Line(f">{mark.strip() or ' '}{row}", Style.SELECTED)
        elif mark == "!":
            yield Line(f"! {row}", Style.SLOW)
        else:
            yield Line(f"  {row}", Style.PLAIN if one.report.is_busy else Style.QUIET)
    if not workers:
        yield Line("  no worker" + (" fits the filter" if steering.text or steering.pool else ""), Style.QUIET)


def _foot(steering: Steering) -> Line:
    if steering.is_typing:
        return Line(f"filter: {steering.text}_   enter: keep it  escape: none", Style.TITLE)
    keys = f"q quit  ? help  s stacks  p pool  / filter  <> order: {steering.order}"
    only = [f"pool {steering.pool}"] if steering.pool else []
    only += [f"'{steering.text}'"] if steering.text else []
    if not only:
        return Line(keys, Style.QUIET)
    return Line(f"only {' and '.join(only)}, escape: all  {keys}", Style.TITLE)
