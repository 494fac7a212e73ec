"""When to try again something that keeps failing.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
YOUNG = 5.0  # seconds; a worker that has lived longer, or has begun a request, did start


class Streak(NamedTuple):
    """Failures in a row, the monotonic time before which nobody should try again, and that of the last failure."""

    failures: int = 0
    not_before: float = 0.0
    last: float = -math.inf

    def after_failure(self, now: float) -> Streak:
        """One more: the first is tried again at once, then after 0.1 s, twice that, … up to 30 s.

        Who fails in a pause was on the way before it: of twenty that were started together, that is no news.
        """
        if now < self.not_before:
            return self._replace(last=now)
        failures = self.failures + 1
        pause = 0.0 if failures == 1 else min(FIRST_PAUSE * 2 ** min(failures - 2, 16), LONGEST_PAUSE)
        return Streak(failures, now + pause, now)

    def allows(self, now: float) -> bool:
        return now >= self.not_before


def died_young(lived: float, requests: int) -> bool:
    """Whether a death says that the worker cannot start, rather than that a request killed it."""
    return lived < YOUNG and requests == 0


def is_emergency(crashes: Sequence[float], threshold: int, interval: float) -> bool:
    """Whether so many crashes fell into so many seconds; `crashes` are their times, the oldest first."""
    if threshold <= 0 or interval <= 0 or len(crashes) < threshold:
        return False
    return crashes[-1] - crashes[-threshold] < interval
