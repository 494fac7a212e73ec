"""pyfpm's budgets that no peer has a figure for: ten idle pools, and how soon a worker is replaced.

Runs in: the benchmark.   Not pure: it starts a daemon, and kills that daemon's workers.
Fails by: RuntimeError as peers.py, TimeoutError when a killed worker is not replaced.
"""

from __future__ import annotations

import os
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

PAUSE = 2.0  # a worker that dies younger than this may be held back on purpose


@dataclass(frozen=True)
class TenPools:
    """The master of ten idle pools."""

    master_pss_kb: int
    master_cpu_percent: float


def ten_pools(place: Place, seconds: float) -> TenPools:
    """Start ten pools, leave them alone, and see what the master costs."""
    with _running(PyfpmTenPools(place)) as peer:
        before, began = cpu_ns([peer.master]), time.monotonic()
        time.sleep(seconds)  # idleness is what is measured
        percent = (cpu_ns([peer.master]) - before) / (time.monotonic() - began) / 1e7
        return TenPools(pss_kb(peer.master), percent)


def replaced_ms(place: Place, times: int = 5) -> float:
    """Median from the death of the only worker to the answer of its replacement.

    Seen from outside: a request sent after the death waits in the listen queue until the new worker takes it.
    That is the master's noticing, its order, the fork and the request itself: an upper bound of the budget's
    "worker ready after the order".
    """
    with _running(PyfpmKilled(place)) as peer:
        request = peer.requests()[0]
        return median(_replaced_ms(peer, request) for _ in range(times))


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
