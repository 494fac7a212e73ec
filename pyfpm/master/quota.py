"""How much the processes of a pool may write to the error log: a bucket that fills with time, and a count of the rest.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.

A line costs the master ten times what it costs the tenant, and a log that one site fills has no room for the others.
"""

from __future__ import annotations

import math

# A site that logs a kilobyte for each of a thousand requests a second stays below this, and a log that grew by it all
# day would have 84 GiB.
BYTES_A_SECOND = 1 << 20
# Tracebacks of every worker at once, a debug log of a start: some seconds' worth is no flood.
BURST = 8 << 20
TELL_EVERY = 1.0  # seconds between two lines about what was left out


class Quota:
    """What one pool may still log. It is asked before and charged after, so it can be overdrawn by one piece."""

    def __init__(self) -> None:
        self.left_out = 0  # lines, since it was last told
        self._room = float(BURST)
        self._refilled = -math.inf
        self._left_out_since = math.inf

    def refill(self, now: float) -> None:
        self._room = min(self._room + max(0.0, now - self._refilled) * BYTES_A_SECOND, BURST)
        self._refilled = now

    @property
    def has_room(self) -> bool:
        return self._room > 0

    def charge(self, size: int) -> None:
        self._room -= size

    def leave_out(self, lines: int) -> None:
        if not self.left_out:
            self._left_out_since = self._refilled
        self.left_out += lines

    def summary(self, now: float = math.inf) -> str:
        """What is to be told of what was left out, or nothing yet. By default all there is."""
        if not self.left_out or now - self._left_out_since < TELL_EVERY:
            return ""
        count, self.left_out = self.left_out, 0
        return f"{count} lines of output left out, more than {BYTES_A_SECOND // 1024} KiB a second"
