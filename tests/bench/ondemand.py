"""Pools that wait for visitors: how soon a burst and a first visitor are answered, and what forty sleeping pools cost.

Runs in: whoever asks for it: `python -m tests.bench.ondemand [--quick]`.   Not pure.
Fails by: exit code 1 when a server does not take part.

pyfpm and php-fpm with the same directives, one after the other in the same run.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.peers import Place
from tests.bench.processes import cpu_ns, pss_kb
from tests.bench.report import markdown
from tests.bench.sites import PhpSite, PyfpmSite, Site, options_for, place_for
from tests.bench.visitors import Target, read_outcome, visit

BURST = 50
BURST_SECONDS = 0.1  # that each of its requests takes
POOLS = 40
IDLE_SECONDS = 20.0
PATIENCE = 30.0
ONDEMAND = "pm = ondemand\npm.max_children = {count}\npm.process_idle_timeout = 1s\n"


class PyfpmOndemand(PyfpmSite):
    """A pool whose workers leave after a second without visitors."""

    pm = ONDEMAND


class PhpOndemand(PhpSite):
    """The same in php-fpm."""

    pm = ONDEMAND


class PyfpmForty(PyfpmOndemand):
    """Forty of them."""

    pools = POOLS


class PhpForty(PhpOndemand):
    """The same in php-fpm."""

    pools = POOLS


# ── a burst ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Burst:
    """Milliseconds from the first connect to the last answer, of each burst; and answers that were none."""

    last_ms: list[float]
    errors: int


def bursts(site: Site, times: int) -> Burst:
    """Fifty visitors at once at a pool without workers."""
    last, errors = [], 0
    for _ in range(times):
        _wait_asleep(site)
        took, wrong = _burst(site.target)
        last.append(took * 1e3)
        errors += wrong
    return Burst(last, errors)


def _burst(target: Target) -> tuple[float, int]:
    """Seconds to the last answer, and how many were wrong."""
    began = time.perf_counter()
    answers: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as waiting:
        for _ in range(BURST):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(target.path))
            connection.sendall(target.request)
            answers[connection] = b""
            waiting.register(connection, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(PATIENCE)
            if not ready:
                break
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                _take(key.fileobj, answers, waiting)
        took = time.perf_counter() - began
    for connection in answers:
        connection.close()
    return took, sum(read_outcome(answer, target.protocol) != "old" for answer in answers.values())


def _take(connection: socket.socket, answers: dict[socket.socket, bytes], waiting: selectors.BaseSelector) -> None:
    try:
        piece = connection.recv(65536)
    except ConnectionError:
        piece = b""
    answers[connection] += piece
    if not piece:
        waiting.unregister(connection)
        connection.close()  # php-fpm's worker waits for that


# ── a first visitor ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class First:
    """Median milliseconds of a visit to a pool without workers, and to one with an idle worker."""

    cold_ms: float
    warm_ms: float


def firsts(site: Site, times: int) -> First:
    """A visit to the sleeping pool, and one right after it, so often."""
    cold, warm = [], []
    for _ in range(times):
        _wait_asleep(site)
        cold.append(_visit_ms(site))
        warm.append(_visit_ms(site))
    return First(median(cold), median(warm))


def _visit_ms(site: Site) -> float:
    made = visit(site.target)
    if made.outcome != "old":
        raise RuntimeError(f"{site.name}: {made.outcome}")
    return made.took * 1e3


def _wait_asleep(site: Site) -> None:
    ends = time.monotonic() + PATIENCE
    while site.workers():
        if time.monotonic() > ends:
            raise RuntimeError(f"{site.name}: {len(site.workers())} workers do not leave")
        time.sleep(0.05)  # workers that leave tell nobody but their master


# ── forty that sleep ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Sleeping:
    """The master of forty idle pools, and all that it started."""

    cpu_percent: float
    master_kb: int
    others_kb: int
    processes: int


def sleeping(site: Site, seconds: float) -> Sleeping:
    """Wait until nobody is awake, then watch."""
    _wait_asleep(site)
    before, began = cpu_ns([site.master]), time.monotonic()
    time.sleep(seconds)  # idleness is what is measured
    percent = (cpu_ns([site.master]) - before) / (time.monotonic() - began) / 1e7
    others = [pid for pid in site.processes() if pid != site.master]
    return Sleeping(percent, pss_kb(site.master), sum(pss_kb(pid) for pid in others), len(others))


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Figures:
    """Of one server."""

    version: str
    burst: Burst
    first: First
    sleeping: Sleeping


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options_for(parser)
    parser.add_argument("--servers", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="pyfpm-ondemand-") as name, place_for(options, Path(name)) as place:
        for chosen in options.servers:
            try:
                figures[chosen] = _measure(place, *KINDS[chosen], quick=options.quick)
            except RuntimeError as error:
                print(f"{chosen} does not take part: {error}\n", file=sys.stderr)
    print(table(figures))
    return 0 if len(figures) == len(options.servers) else 1


KINDS: dict[str, tuple[type[Site], type[Site]]] = {
    "pyfpm": (PyfpmOndemand, PyfpmForty),
    "php-fpm": (PhpOndemand, PhpForty),
}


def _measure(place: Place, one: type[Site], forty: type[Site], *, quick: bool) -> Figures:
    with _running(one(place, BURST, BURST_SECONDS)) as (site, version):
        burst = bursts(site, 3 if quick else 9)
    with _running(one(place, BURST)) as (site, _):
        first = firsts(site, 5 if quick else 20)
    with _running(forty(place, BURST)) as (site, _):
        return Figures(version, burst, first, sleeping(site, 5 if quick else IDLE_SECONDS))


@contextmanager
def _running(site: Site) -> Iterator[tuple[Site, str]]:
    try:
        version = site.install()
        site.start()
        yield site, version
    finally:
        site.remove()


ROWS: list[tuple[str, Callable[[Figures], float], str]] = [
    (
        f"{BURST} visitors at once, {BURST_SECONDS * 1e3:g} ms each: last answer, median",
        lambda of: median(of.burst.last_ms),
        "ms",
    ),
    ("the slowest of these bursts", lambda of: max(of.burst.last_ms), "ms"),
    ("not answered", lambda of: of.burst.errors, ""),
    ("a visit to a pool without workers, median", lambda of: of.first.cold_ms, "ms"),
    ("a visit right after it, median", lambda of: of.first.warm_ms, "ms"),
    ("what the first visitor waits longer", lambda of: of.first.cold_ms - of.first.warm_ms, "ms"),
    (f"{POOLS} sleeping pools: the master's share of a core", lambda of: of.sleeping.cpu_percent, "%"),
    (f"{POOLS} sleeping pools: master, PSS", lambda of: of.sleeping.master_kb / 1024, "MB"),
    (f"{POOLS} sleeping pools: templates, PSS", lambda of: of.sleeping.others_kb / 1024, "MB"),
    (f"{POOLS} sleeping pools: processes besides the master", lambda of: of.sleeping.processes, ""),
]


def table(figures: dict[str, Figures]) -> str:
    """A row for each figure, a column for each server, and the ratio of the first to the last."""
    shown = list(figures.values())
    head = ["", *(each.version for each in shown), *(["ratio"] if len(shown) > 1 else [])]
    return markdown([head, *(_row(row, shown) for row in ROWS)])


def _row(row: tuple[str, Callable[[Figures], float], str], shown: Sequence[Figures]) -> list[str]:
    name, read, unit = row
    values = [read(each) for each in shown]
    cells = [f"{value:.3g} {unit}".strip() for value in values]
    ratio = [f"{values[0] / values[-1]:.2f}" if values[-1] else ""] if len(values) > 1 else []
    return [name, *cells, *ratio]


if __name__ == "__main__":
    sys.exit(main())
