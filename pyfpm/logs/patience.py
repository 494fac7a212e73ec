"""How long a log waits for its reader.

Runs in: master, as root.   Not pure: it waits, and looks at the clock.
Fails by: nothing to fail at.
"""

from __future__ import annotations

import select
import time

MOST = 0.1  # seconds at most that a write waits for a reader
SHARE = 0.25  # and at most this share of all time: one that reads a byte now and then wins nothing by it


class Patience:
    """A pipe that nobody reads would stop the master for ever. It gets a moment once, then none until it moves."""

    def __init__(self) -> None:
        self._left = MOST
        self._at = time.monotonic()

    def wait(self, descriptor: int, *, is_stuck: bool) -> bool:
        """Whether it can be written, at once or soon; only at once where it `is_stuck` already."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if poll.poll(0):
            return True
        began = time.monotonic()
        self._left = min(self._left + (began - self._at) * SHARE, MOST)
        moved = poll.poll(0 if is_stuck else self._left * 1000)
        self._at = time.monotonic()
        self._left = max(0.0, self._left - (self._at - began))
        return bool(moved)
