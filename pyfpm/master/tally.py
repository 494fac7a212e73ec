"""What became of workers that are no more, and of their requests: counted, and added up.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at. What a worker has counted itself is gossip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyfpm.histogram import EMPTY, added

if TYPE_CHECKING:
    from pyfpm.scoreboard import Reading, Scoreboard

_COUNTS = ("requests", "begun", "recycled", "crashed", "killed", "slow", "timed_out", "shed")


@dataclass
class Tally:
    """The counts of a generation, or of several."""

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

    def count(self, scoreboard: Scoreboard, slot: int, last: Reading) -> None:
        """Keep what the worker of a slot has counted; `last` is what is read there."""
        durations, waits = scoreboard.read_histograms(slot)
        self.add(
            Tally(
                last.served,
                last.number,
                shed=last.shed,
                memory_peak=last.memory,
                durations=durations,
                waits=waits,
            )
        )
