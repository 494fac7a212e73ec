"""How busy a pool has been of late: moving averages as of the load average, over 1, 5 and 15 minutes.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing.
"""

from __future__ import annotations

from math import exp

WINDOWS = (60.0, 300.0, 900.0)  # seconds
Shares = tuple[float, float, float]


def averaged(before: Shares, share: float, elapsed: float, age: float) -> Shares:
    """The averages after `elapsed` more seconds with this share at work (0 to 1), `age` seconds after the start.

    In a window's first moments the plain mean counts: beginning at 0 would call a pool idle that never was.
    """
    share = min(max(share, 0.0), 1.0)
    if elapsed <= 0:
        return before
    now = tuple(
        old + (share - old) * max(1 - exp(-elapsed / window), min(1.0, elapsed / max(age, elapsed)))
        for old, window in zip(before, WINDOWS, strict=True)
    )
    return now[0], now[1], now[2]
