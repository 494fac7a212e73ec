"""Scoreboards of a site in all the states that a dashboard has to show, and a server that shows them.

Runs in: tests; the server in a thread of theirs.
Fails by: OSError.
"""

from __future__ import annotations

import contextlib
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from pyfpm.facts import STEP, STEPS, History
from pyfpm.scoreboard import (
    BORN,
    CPU,
    DURATION,
    GENERATION,
    IDLE,
    MEMORY,
    NUMBER,
    PID,
    READING,
    RUNNING,
    SINCE,
    Scoreboard,
    Slot,
)  # fmt: skip
from pyfpm.status.dashboard import CSP, page
from pyfpm.status.snapshot import take
from tests.unit.status.boards import FACTS, NOW, WALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfpm.status.snapshot import Snapshot

    Curve = Callable[[int], float]

SECOND = 10**9
MIB = 1 << 20
LATER = NOW + 10 * 86_400 * SECOND  # so that there is room for a past


class Pool:
    """A scoreboard of a day-old pool; what it is to show is said by the methods."""

    def __init__(self, name: str, slots: int, facts: dict[str, int] | None = None, note: str = "ok") -> None:
        self.name = name
        self.board = Scoreboard.create(name, slots)
        self._free = 0
        started = {"started": LATER - 273_600 * SECOND, "start_time": int(WALL) - 273_600}
        quiet = {"slow": 0, "timed_out": 0, "crashed": 0, "killed": 0, "shed_elsewhere": 0, "active_elsewhere": 0,
                 "memory_peak": 0}  # fmt: skip
        calm = {"queue": 0, "queue_max": 2, "max_children_reached": 0, "max_children": slots, "generation": 7}
        reload = {"reload_time": int(WALL) - 5400, "accepted_elsewhere": 1_204_331, "max_active": slots - 1}
        self.board.facts.write({**FACTS, **started, **quiet, **calm, **reload, **(facts or {})}, note)

    def idle(self, uri: str, took: float, weight: int = 38) -> Pool:
        """A worker that waits, after a request that took so many seconds."""
        return self._seat(IDLE, uri, "GET", took, weight)

    def busy(self, uri: str, since: float, weight: int = 41, method: str = "GET", stage: int = RUNNING) -> Pool:
        """A worker that has been in a request for so many seconds."""
        return self._seat(stage, uri, method, since, weight)

    def reading(self) -> Pool:
        return self._seat(READING, "", "", 0.02, 36)

    def remember(self, rate: Curve, queue: Curve, busy: Curve) -> Pool:
        """Its last ten minutes, step by step: requests a second, connections that wait, the share at work."""
        history = History()
        last = LATER // (STEP * SECOND)
        for place in range(STEPS):
            number = last - STEPS + 1 + place
            history.put(number, int(rate(place) * STEP), int(queue(place)), int(min(1.0, busy(place)) * 1e6))
        self.board.facts.write_history(bytes(history))
        return self

    def snapshot(self) -> Snapshot:
        return take(self.board, self.name, "site.wsgi:application", WALL, LATER)

    def _seat(self, stage: int, uri: str, method: str, seconds: float, weight: int) -> Pool:
        own, self._free = self._free, self._free + 1
        slot = Slot(self.board, own)
        values = {
            PID: 21840 + 7 * own, GENERATION: 7, NUMBER: 1840 + 613 * own, BORN: LATER - (5390 - 431 * own) * SECOND,
            SINCE: LATER - int(seconds * SECOND), DURATION: int(seconds * SECOND), CPU: int(seconds * 4e5),
            MEMORY: (weight + 21) * MIB,
        }  # fmt: skip
        for name, value in values.items():
            slot.numbers[name] = value
        slot.show_request(method, uri, None)
        slot.stages[own] = stage
        self.board.weigh(own, weight * MIB)
        return self


def _wave(base: float, height: float, period: float) -> Curve:
    """What looks like a site's traffic, and is the same each time."""

    def at(x: int) -> float:
        return max(0.0, base + height * (math.sin(x / period) + 0.35 * math.sin(x * 1.9) + 0.25 * math.sin(x * 5.3)))

    return at


def _rising(start: int, slope: float) -> Curve:
    return lambda x: max(0.0, (x - start) * slope)


@contextlib.contextmanager
def a_bad_night() -> Iterator[list[Pool]]:
    """Four pools: one stuck, one whose last reload was refused, one that is well, one that sleeps."""
    report = "/reports/turnover?from=2026-01-01&to=2026-11-21&by=customer&format=xlsx"
    shop = Pool(
        "shop",
        4,
        {"queue": 23, "queue_max": 31, "max_children_reached": 3, "slow": 41, "timed_out": 2, "busy_1": 985_000,
         "busy_5": 610_000, "busy_15": 340_000, "shed_elsewhere": 6},
    )  # fmt: skip
    shop.busy(report, 252.4, 212).busy("/checkout", 61.8, 64, "POST").busy("/checkout", 48.1, 66, "POST")
    shop.busy("/cart?added=88213", 12.6, 58)
    ebbing = _wave(18, 4, 9)
    shop.remember(lambda x: ebbing(x) * max(0.06, 1 - max(0, x - 85) / 18), _rising(92, 0.82), _rising(70, 0.021))
    blog = Pool(
        "blog",
        6,
        {"generation": 7, "reload_time": int(WALL) - 190, "busy_1": 212_000, "busy_5": 190_000, "busy_15": 203_000},
        "ModuleNotFoundError: No module named 'markdown' (blog/views.py, line 4)",
    )
    blog.busy("/2026/11/a-walk-in-the-fog/", 0.084).idle("/feed.xml", 0.012).idle("/", 0.031).reading()
    blog.idle("/tag/caf\u00c3\u00a9s/", 0.044)
    blog.remember(_wave(7, 2, 14), lambda _: 0, _wave(0.2, 0.06, 11))
    intranet = Pool("intranet", 8, {"busy_1": 420_000, "busy_5": 390_000, "busy_15": 405_000, "slow": 3, "crashed": 1})
    for uri, since in (("/wiki/Onboarding", 0.21), ("/search?q=holiday", 1.9), ("/api/v2/people", 0.045)):
        intranet.busy(uri, since, 83)
    for uri, took in (("/wiki/", 0.18), ("/api/v2/rooms", 0.051), ("/login", 0.24)):
        intranet.idle(uri, took, 79)
    intranet.remember(_wave(42, 9, 17), lambda x: 2 if x in (31, 77) else 0, _wave(0.4, 0.1, 13))
    archive = Pool("archive", 2, {"manager": 2, "busy_1": 0, "busy_5": 0, "busy_15": 12_000, "accepted_elsewhere": 918})
    archive.remember(lambda x: 0.6 if x in (12, 13, 15) else 0, lambda _: 0, lambda x: 0.5 if x in (12, 13) else 0)
    pools = [shop, blog, intranet, archive]
    try:
        yield pools
    finally:
        for pool in pools:
            pool.board.close()


class Site:
    """Shows what `snapshots` gives, as a worker would; it can be told to fail."""

    def __init__(self, snapshots: Callable[[], list[Snapshot]]) -> None:
        self.failing = False
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b"busy" if site.failing else page(snapshots()).encode()
                self.send_response(502 if site.failing else 200)
                self.send_header("Content-Type", "text/html;charset=UTF-8")
                self.send_header("Content-Security-Policy", CSP)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str = "/a/b/c/fpm-status?html") -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"
