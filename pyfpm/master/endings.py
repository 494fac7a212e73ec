"""What the end of a worker means: how it ended, what it was told and where it was, to one word.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.
"""

from __future__ import annotations

import enum
import signal
from typing import TYPE_CHECKING

from pyfpm.master.backoff import died_young
from pyfpm.scoreboard import IN_REQUEST

if TYPE_CHECKING:
    from pyfpm.master.children import Child
    from pyfpm.master.processes import End
    from pyfpm.scoreboard import Reading


class Ending(enum.Enum):
    """What a worker's end was."""

    OBEYED = "it was asked to leave, and did"
    CUT_OFF = "it was asked to leave, and had to be made to"
    TIMED_OUT = "its request took too long, and did not end when told"
    FAILED_TO_START = "it ended before it had shown that it can serve"
    LEFT = "it left by itself"
    DIED = "it served, and something killed it"


def judge(child: Child, end: End, last: Reading, lived: float, *, dismissed: bool) -> Ending:
    """What this end was. `last` is what its slot said at the end; `dismissed`: its whole generation is to leave."""
    if child.leaving_since is not None:
        in_request = last.stage in IN_REQUEST
        return Ending.OBEYED if not child.ready or (_obeyed(child, end) and not in_request) else Ending.CUT_OFF
    if child.timed_out:
        return Ending.TIMED_OUT
    if not dismissed and (child.reason is not None or died_young(lived, last.number)):
        return Ending.FAILED_TO_START
    return Ending.LEFT if end.status == 0 or end.by == signal.SIGQUIT else Ending.DIED


def _obeyed(child: Child, end: End) -> bool:
    """Whether a worker that was asked to leave did so by itself, or by the TERM that it was sent."""
    return end.status == 0 or (end.by == signal.SIGTERM and child.pressed is signal.SIGTERM)
