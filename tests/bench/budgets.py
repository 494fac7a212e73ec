"""pyfpm's budgets that no peer has a figure for: ten idle pools, and how soon a worker is replaced.

Runs in: the benchmark.   Not pure: it starts a daemon, and kills that daemon's workers.
Fails by: RuntimeError as peers.py, TimeoutError when a killed worker is not replaced.
"""

from __future__ import annotations

import os
import re
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from tests.bench.load import ask
from tests.bench.peers import Place, Pyfpm, PyfpmKilled, PyfpmTenPools
from tests.bench.processes import cpu_ns, pss_kb

_READY = re.compile(r"is ready, (\S+) seconds after the order")
SETTLE = 5.0  # seconds; what has just come up is weighed, and is not idle yet
PAUSE = 2.0  # a worker that dies younger than this may be held back on purpose


@dataclass(frozen=True)
class TenPools:
    """The master of ten idle pools."""

    master_pss_kb: int
    master_cpu_percent: float


def ten_pools(place: Place, seconds: float) -> TenPools:
    """Start ten pools, leave them alone, and see what the master costs."""
    with _running(PyfpmTenPools(place)) as peer:
        time.sleep(SETTLE)
        before, began = cpu_ns([peer.master]), time.monotonic()
        time.sleep(seconds)  # idleness is what is measured
        percent = (cpu_ns([peer.master]) - before) / (time.monotonic() - began) / 1e7
        return TenPools(pss_kb(peer.master), percent)


@dataclass(frozen=True)
class Replaced:
    """Medians of some deaths of the only worker."""

    answered_ms: float  # from the death to the answer of the replacement, as seen from outside
    ready_ms: float  # from the order to its being ready, as the master has seen it


def replaced(place: Place, times: int = 7) -> Replaced:
    """Kill the only worker again and again, and send a request that waits for the next."""
    with _running(PyfpmKilled(place)) as peer:
        request = peer.requests()[0]
        answered = [_replaced_ms(peer, request) for _ in range(times)]
        log = (peer.folder / "error.log").read_text(encoding="utf-8")
        ready = [float(seconds) * 1e3 for seconds in _READY.findall(log)][-times:]
        return Replaced(median(answered), median(ready))


def _replaced_ms(peer: Pyfpm, request: bytes) -> float:
    time.sleep(PAUSE)  # the back-off for young workers is not what is measured
    (worker,) = peer.workers()
    death = os.pidfd_open(worker)
    try:
        os.kill(worker, signal.SIGKILL)
        # Sent earlier, the request might be accepted by the worker that is dying, and be reset.
        select.select([death], [], [])
        began = time.perf_counter()
        ask(peer.socket, request)
        return (time.perf_counter() - began) * 1e3
    finally:
        os.close(death)


@contextmanager
def _running(peer: Pyfpm) -> Iterator[Pyfpm]:
    peer.install()
    peer.start()
    try:
        yield peer
    finally:
        peer.stop()
