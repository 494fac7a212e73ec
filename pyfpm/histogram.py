"""How long requests take, and how long they wait: counts by size, as OpenMetrics wants them.

Runs in: worker (counts in its own slot), master (adds up those of workers that are gone), Python 3.9 and up.
Pure: no system call, no clock, no log.
Fails by: nothing to fail at.

A histogram is a row of cells, 64 bits each: one for each bound (a time is counted where it is not above the bound and
above the one before), one for what is above all of them, and the sum of all times in nanoseconds.
"""

from __future__ import annotations

from bisect import bisect_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
SUM = len(BOUNDS) + 1
CELLS = SUM + 1
_NANOSECONDS = tuple([int(bound * 1e9) for bound in BOUNDS])
_LARGEST = (1 << 64) - 1


def observe(cells: Any, nanoseconds: int) -> None:
    """Count one time in a row of cells that only the caller writes. A sum that is full stays full: clients can lie."""
    cells[bisect_left(_NANOSECONDS, nanoseconds)] += 1
    try:
        cells[SUM] += nanoseconds
    except ValueError:
        cells[SUM] = _LARGEST


def added(*rows: Sequence[int]) -> tuple[int, ...]:
    """Rows together; they are gossip, so the result is kept to what a cell can hold."""
    return tuple([min(sum(cells), _LARGEST) for cells in zip(*rows)])


EMPTY = (0,) * CELLS
