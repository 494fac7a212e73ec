"""pyfpm's budgets that no peer has a figure for: ten idle pools, and how soon a worker is replaced.

Runs in: the benchmark.   Not pure: it starts a daemon, and kills that daemon's workers.
Fails by: RuntimeError as peers.py, TimeoutError when a killed worker is not replaced.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from statistics import median

from load import receive, send
from peers import Place, Pyfpm, PyfpmTenPools
from processes import cpu_ns, pss_kb

PAUSE = 2.0  # a worker that dies younger than this may be held back on purpose


@dataclass(frozen=True)
class TenPools:
    """The master of ten idle pools."""

    master_pss_kb: int
    master_cpu_percent: float


def ten_pools(place: Place, seconds: float) -> TenPools:
    """Start ten pools, leave them alone, and see what the master costs."""
    peer = PyfpmTenPools(place)
    peer.install()
    peer.start()
    try:
        before, began = cpu_ns([peer.master]), time.monotonic()
        time.sleep(seconds)  # idleness is what is measured
        percent = (cpu_ns([peer.master]) - before) / (time.monotonic() - began) / 1e7
        return TenPools(pss_kb(peer.master), percent)
    finally:
        peer.stop()


def replaced_ms(peer: Pyfpm, times: int = 5) -> float:
    """Median from the kill of the only worker to the answer of its replacement.

    Seen from outside: a request sent right after the kill waits in the listen queue until the new worker takes
    it. That is the master's noticing, its order, the fork and the request itself: an upper bound of the budget's
    "worker ready after the order".
    """
    requests = peer.requests()
    took = []
    for _ in range(times):
        time.sleep(PAUSE)  # the back-off for young workers is not what is measured
        (worker,) = peer.workers()
        began = time.perf_counter()
        os.kill(worker, signal.SIGKILL)
        receive(send(peer.socket, requests[0]))
        took.append((time.perf_counter() - began) * 1e3)
    return median(took)
