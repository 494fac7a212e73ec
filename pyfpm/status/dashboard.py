"""The page for people: one HTML document, complete as it is sent, for one pool or for all of them.

Runs in: worker or monitor that answers a status request, Python 3.9 and up.   Not pure: a date is in local time, and
style and script are files beside this one, read when it is imported.
Fails by: OSError when those files are gone.

All that is on the page is made here, once. Its script (dashboard.js) fetches the same address again and has the
document say what the new one says; it knows nothing of pools, so the two cannot come to say different things. Whatever
a visitor of the site has sent is escaped here; should that ever fail, CSP keeps the browser from running it.
"""

from __future__ import annotations

import time
from base64 import b64encode
from hashlib import sha256
from os.path import dirname, join

from pyfpm.status import amounts
from pyfpm.status.concerns import BAD, SETTLED, concerns_of, moment_of, since_reload, state_of, worst
from pyfpm.status.icons import SPRITE, WORDS, icon
from pyfpm.status.markup import escape
from pyfpm.status.snapshot import RELOADED
from pyfpm.status.sparkline import queue_line, share_line, traffic, traffic_line
from pyfpm.status.tables import pools_table, workers_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfpm.status.concerns import Concern
    from pyfpm.status.snapshot import Snapshot

    Looked = tuple[Snapshot, list[Concern]]

MOST_CONCERNS = 20  # on top of the page; each stands at its pool as well
REFRESH = 5  # seconds, where scripts do not run
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M2 9h3v5H2zM6.5 5h3v9h-3zM11 2h3v12h-3z' fill='%230d7377'/%3E%3C/svg%3E"
)


def _read(name: str) -> str:
    with open(join(dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


STYLE = _read("dashboard.css")
SCRIPT = _read("dashboard.js")


def _source(text: str) -> str:
    return "'sha256-" + b64encode(sha256(text.encode()).digest()).decode() + "'"


CSP = (
    f"default-src 'none'; script-src {_source(SCRIPT)}; style-src {_source(STYLE)}; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{title}</title>
<link rel="icon" href="{icon}">
<noscript><meta http-equiv="refresh" content="{refresh}"></noscript>
<style>{style}</style>
</head>
<body>
<svg class="sprite" aria-hidden="true" data-own>{sprite}</svg>
<header>
<p class="brand">pyfpm</p>
<p class="moment">As of <time>{moment}</time><span id="since" data-own></span></p>
<p id="lost" role="status" data-own></p>
</header>
<main id="main">
<div role="status" class="headline {weight}"><h1>{icon_of}{headline}</h1></div>
{concerns}<div id="filter" data-own hidden></div>
{overview}{pools}</main>
<footer>
<p>For programs: <a href="?json&amp;full">JSON</a>, <a href="?xml&amp;full">XML</a>, <a href="?full">text</a>,
<a href="?openmetrics">OpenMetrics</a></p>
</footer>
<script>{script}</script>
</body>
</html>
"""


def page(snapshots: Sequence[Snapshot]) -> str:
    """The whole document."""
    looked = [(pool, concerns_of(pool)) for pool in snapshots]
    weight = worst([concern for _, concerns in looked for concern in concerns])
    return _PAGE.format(
        title=escape(_title(looked)),
        icon=ICON,
        refresh=REFRESH,
        style=STYLE,
        sprite=SPRITE,
        moment=_moment(snapshots),
        weight=weight,
        icon_of=icon(weight),
        headline=escape(_headline(looked)),
        concerns=_concerns(looked),
        overview=pools_table(looked) if len(looked) > 1 else "",
        pools="".join([_pool(place, pool, concerns) for place, (pool, concerns) in enumerate(looked)]),
        script=SCRIPT,
    )


def _moment(snapshots: Sequence[Snapshot]) -> str:
    known = [now for pool in snapshots if (now := moment_of(pool)) is not None]
    return time.strftime("%d %b %Y %H:%M:%S %z", time.localtime(max(known))) if known else amounts.UNKNOWN


# ── what is wrong ───────────────────────────────────────────────────────────────────────────────────────────────────


def _title(looked: list[Looked]) -> str:
    troubled = sum(1 for _, concerns in looked if concerns)
    name = looked[0][0].pool if len(looked) == 1 else f"{len(looked)} pools"
    return (f"({troubled}) " if troubled else "") + f"{name} \N{MIDDLE DOT} pyfpm"


def _headline(looked: list[Looked]) -> str:
    weights = [worst(concerns) for _, concerns in looked]
    if not looked:
        return "There is no pool"
    if len(looked) == 1:
        does = {"good": "serves", "odd": "needs a look", "bad": "has a problem"}[weights[0]]
        return f"{looked[0][0].pool} {does}"
    bad, odd = weights.count("bad"), weights.count("odd")
    if not bad and not odd:
        return f"All {len(looked)} pools serve"
    of = f" of {len(looked)} pools"
    parts = [f"{bad}{of} {'has' if bad == 1 else 'have'} a problem"] if bad else []
    if odd:
        parts.append(f"{odd}{'' if bad else of} {'needs' if odd == 1 else 'need'} a look")
    return ", ".join(parts)


def _concerns(looked: list[Looked]) -> str:
    """All of them, the worst first, each with the way to its pool."""
    every = [(concern, place, pool) for place, (pool, concerns) in enumerate(looked) for concern in concerns]
    every.sort(key=lambda one: one[0].weight != BAD)
    lines = [
        f'<li class="{concern.weight}">{icon(concern.weight)}<p><strong>{WORDS[concern.weight]}</strong> '
        f'<a href="#pool-{place}">{escape(pool.pool)}</a> <span class="words">{escape(concern.words)}</span></p></li>'
        for concern, place, pool in every[:MOST_CONCERNS]
    ]
    if len(every) > MOST_CONCERNS:
        lines.append(f"<li><p>and {len(every) - MOST_CONCERNS} more, at their pools</p></li>")
    return f'<ul class="concerns" aria-label="What is wrong">{"".join(lines)}</ul>\n' if lines else ""


# ── a pool ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _pool(place: int, pool: Snapshot, concerns: list[Concern]) -> str:
    weight, name = worst(concerns), escape(pool.pool)
    up = f", up {amounts.age(pool.start_since)}" if pool.start_since is not None else ""
    return (
        f'<section class="pool {weight}" id="pool-{place}" data-key="{name}" aria-labelledby="name-{place}">'
        f'<div class="title"><h2 id="name-{place}">{name}</h2>'
        f'<p class="state {weight}">{icon(weight)}{state_of(pool)}</p>'
        f'<p class="kind">{escape(pool.process_manager)}{up}</p></div>'
        f'<dl class="tiles">{"".join(_tiles(pool, {one.figure: one.weight for one in reversed(concerns)}))}</dl>'
        f"{workers_table(pool)}</section>\n"
    )


def _tiles(pool: Snapshot, marks: dict[str, str]) -> list[str]:
    count = amounts.count
    per_second = traffic(pool)
    reached = pool.max_children_reached
    ended = f"{count(pool.killed_processes)} killed, {count(pool.recycled_processes)} recycled"
    return [
        _tile(
            "Workers busy",
            f"{pool.active_processes}<small> of {count(pool.max_children)}</small>",
            [
                f"{pool.idle_processes} idle, most busy {count(pool.max_active_processes)}",
                *([f"limit reached {amounts.many(reached, 'time', 'times')}"] if reached else []),
            ],
            marks.get("workers"),
            _bar(pool.active_processes, pool.max_children),
        ),
        _tile(
            "Busy share, 1 min",
            amounts.share(pool.busy_share_1m),
            [f"5 min {amounts.share(pool.busy_share_5m)}, 15 min {amounts.share(pool.busy_share_15m)}"],
            drawn=share_line(pool),
        ),
        _tile(
            "Requests per second",
            amounts.rate(per_second),
            [f"{count(pool.accepted_conn)} in all"],
            drawn=traffic_line(pool),
        ),
        _tile(
            "Connections waiting",
            count(pool.listen_queue),
            [f"most {count(pool.max_listen_queue)}, limit {count(pool.listen_queue_len)}"],
            marks.get("queue"),
            queue_line(pool),
        ),
        _tile(
            "Slow requests",
            count(pool.slow_requests),
            [f"{count(pool.timed_out_requests)} timed out, {count(pool.shed_requests)} shed"],
        ),
        _tile("Workers crashed", count(pool.crashed_processes), [ended]),
        _tile("Memory", amounts.size(pool.memory), [f"largest worker {amounts.size(pool.memory_peak)}"]),
        _tile("Generation", count(pool.generation), _code(pool), marks.get("code")),
    ]


def _tile(name: str, figure: str, more: list[str], mark: str | None = None, drawn: str = "") -> str:
    marked = f'{icon(mark)}<span class="unseen">{WORDS[mark]}: </span>' if mark else ""
    rest = "".join([f"<dd>{text}</dd>" for text in more])
    drawing = f'<dd class="drawn">{drawn}</dd>' if drawn else ""
    head = f'<dt>{marked}{name}</dt><dd class="figure">{figure}</dd>'
    return f'<div class="tile {mark or ""}">{head}{drawing}{rest}</div>'


def _code(pool: Snapshot) -> list[str]:
    reload = "not reloaded yet"
    if pool.last_reload_time is not None:
        reload = "last reload " + (RELOADED if pool.last_reload in SETTLED else "refused")
        if (passed := since_reload(pool)) is not None:
            reload += f", {amounts.age(passed)} ago"
    return [reload, f"template: {pool.template or amounts.UNKNOWN}"]


def _bar(part: int, whole: int | None) -> str:
    width = min(100.0, part / whole * 100) if whole else 0.0
    return (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="6"/><rect class="fill" width="{width:.1f}" height="6"/></svg>'
    )
