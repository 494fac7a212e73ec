"""Which connections have waited too long: samples of the listen queue in, a place in the queue out.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at. The counts come from slots, so a pool can lie about itself, and about no other.

Nobody sees how long a connection has waited. But connections are taken up in the order of their coming. If at some
moment `taken` had been taken up and `waiting` were in the queue, then exactly the first `taken + waiting` of all had
come by then; and when that moment is longer ago than the limit, each of these that is taken up now has waited longer.
"""

from __future__ import annotations

from collections import deque

LEAST_INTERVAL = 0.05  # seconds


class Behind:
    """The samples of one queue, of as long as connections wait in it."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.interval = max(LEAST_INTERVAL, limit / 10)
        self._samples: deque[tuple[float, int]] = deque()  # when, and how many had come; the oldest first

    def note(self, when: float, taken: int, waiting: int) -> None:
        """A sample. `taken` must have been counted before `waiting`, and `when` be no earlier than both."""
        self._samples.append((when, taken + waiting))

    def mark(self, now: float, taken: int) -> int:
        """The last place in the queue that has waited longer than the limit; 0 when all of these are taken up."""
        samples, since = self._samples, now - self.limit
        while len(samples) > 1 and samples[1][0] < since:
            samples.popleft()
        if not samples or samples[0][0] >= since or samples[0][1] <= taken:
            return 0
        return samples[0][1]

    def forget(self) -> None:
        """The queue has been empty, or the counts were of something else."""
        self._samples.clear()
