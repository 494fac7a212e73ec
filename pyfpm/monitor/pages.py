"""The pages: status, metrics and ping, of one pool or of all.

Runs in: monitor.
Fails by: nothing of its own.

A pool's own listener shows that pool alone, whatever the question. Nothing is answered that another origin's page in a
browser could read: there is no CORS header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from pyfpm.monitor.questions import Answer, refusal
from pyfpm.status.formats import is_full, render, render_metrics
from pyfpm.status.snapshot import clean

if TYPE_CHECKING:
    from pyfpm.monitor.questions import Question
    from pyfpm.monitor.shown import Shown, ShownPool
    from pyfpm.status.snapshot import Snapshot

STATUS_PATHS = ("/", "/status")
METRICS_PATH = "/metrics"
ALLOWED = ("GET", "HEAD")
OPENMETRICS_TYPE = "application/openmetrics-text"


def answer(question: Question, shown: Shown, scope: int) -> Answer:
    """The answer to one who may see pool number `scope`, or all if that is 0."""
    if question.method not in ALLOWED:
        return refusal("405 Method Not Allowed", ("Allow", ", ".join(ALLOWED)))
    pools = shown.visible(scope)
    chosen = [] if scope else _chosen(question.query)
    if unknown := set(chosen) - {pool.name for pool in pools}:
        return Answer("404 Not Found", f"no such pool: {clean(', '.join(sorted(unknown)))}\n".encode())
    if chosen:
        pools = [pool for pool in pools if pool.name in chosen]
    pong = next((pool.ping_response for pool in pools if pool.ping_path in question.paths), None)
    if pong is not None:
        return Answer("200 OK", pong.encode("utf-8", "surrogateescape"))
    if METRICS_PATH not in question.paths and not _is_status(question, pools):
        return refusal("404 Not Found")
    found = [shown.snapshot(pool, is_full(question.query)) for pool in pools]
    snapshots = [one for one in found if one is not None]
    if scope and not snapshots:
        return refusal("503 Service Unavailable", ("Retry-After", "1"))
    return _page(question, snapshots, is_list=not scope and len(chosen) != 1)


def _page(question: Question, snapshots: list[Snapshot], *, is_list: bool) -> Answer:
    if METRICS_PATH in question.paths:
        kind, body = render_metrics(snapshots, question.query, OPENMETRICS_TYPE in question.accept)
    else:
        kind, body = render(snapshots, question.query, is_list=is_list)
    return Answer("200 OK", body, kind)


def _is_status(question: Question, pools: list[ShownPool]) -> bool:
    """Behind a front server, which has chosen the path, everything that arrives is meant for this page."""
    if not question.is_direct:
        return True
    return any(path in STATUS_PATHS or path in {pool.status_path for pool in pools} for path in question.paths)


def _chosen(query: str) -> list[str]:
    """The values of `pool=` in a query."""
    pairs = [part.partition("=") for part in query.split("&")]
    return [unquote_plus(value) for name, _, value in pairs if name == "pool"]
