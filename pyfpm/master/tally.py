"""What became of workers and of their requests: counted, and added up.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at. What a worker has counted itself is gossip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyfpm.histogram import EMPTY, added
from pyfpm.scoreboard import SERVED, SHED

if TYPE_CHECKING:
    from pyfpm.scoreboard import Scoreboard

_COUNTS = ("requests", "begun", "recycled", "crashed", "killed", "slow", "timed_out", "shed")


@dataclass
class Tally:
    """The counts of a generation, or of several.

    What a generation's workers count themselves (requests, begun, shed, peak, histograms) stays on its scoreboard as
    long as it lives, and is counted here when it is no more.
    """

    requests: int = 0  # answered
    begun: int = 0
    recycled: int = 0
    crashed: int = 0
    killed: int = 0
    slow: int = 0  # requests over the slow log's limit
    timed_out: int = 0  # and over their time, and ended
    shed: int = 0  # that had waited too long, and were refused
    memory_peak: int = 0  # bytes, of any worker
    durations: Sequence[int] = EMPTY  # histograms of the requests
    waits: Sequence[int] = EMPTY

    def add(self, other: Tally) -> None:
        """Count what `other` counted too."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.memory_peak = max(self.memory_peak, other.memory_peak)
        self.durations, self.waits = added(self.durations, other.durations), added(self.waits, other.waits)

    def ends(self) -> tuple[int, ...]:
        """The counts that only the master knows."""
        return self.recycled, self.crashed, self.killed, self.slow, self.timed_out

    def count(self, scoreboard: Scoreboard) -> None:
        """Count what all workers of a scoreboard have counted, those that are gone included."""
        durations, waits = scoreboard.histograms()
        peaks = [scoreboard.read_gone().memory, *(scoreboard.read_numbers(slot).memory for slot in scoreboard.taken())]
        self.add(
            Tally(
                scoreboard.total(SERVED),
                scoreboard.begun(),
                shed=scoreboard.total(SHED),
                memory_peak=max(peaks),
                durations=durations,
                waits=waits,
            )
        )
