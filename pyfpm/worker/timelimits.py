"""Time limits of a request, the worker's part: stacks on a signal, the exception, and the deadline that may be moved.

Runs in: worker, as the pool's user, Python 3.9 and up.
Fails by: nothing; a signal that is not free is left to the application, and no stacks are shown.
"""

from __future__ import annotations

import faulthandler  # here, in the template, and shared: its import costs each worker 120 kB otherwise
import os
import signal
import time

from pyfpm.gateway.response import Response
from pyfpm.scoreboard import DEADLINE, RAISED
from pyfpm.worker.connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from pyfpm.scoreboard import Slot

LONGEST_EXTENSION = 365 * 86400.0  # seconds, as of any duration in the configuration
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def offer_stacks(descriptor: int, number: int) -> bool:
    """From now on signal `number` makes this process write the stacks of all its threads to `descriptor`.

    By a handler in C that takes no lock: it works in the middle of a C call, and needs no thread to be willing. False
    if the signal is taken already.
    """
    if is_taken(number):
        return False
    faulthandler.register(number, file=descriptor, all_threads=True, chain=False)
    return True


def is_taken(number: int) -> bool:
    """Whether the application, or a library in C, handles or ignores this signal: proc_pid_status(5)."""
    if signal.getsignal(number) is not signal.SIG_DFL:
        return True
    try:
        with open("/proc/self/status", "rb") as status:
            masks = [int(line.split()[1], 16) for line in status if line.startswith((b"SigCgt:", b"SigIgn:"))]
    except (OSError, ValueError, IndexError):
        return False  # no /proc in a chroot, most often
    return any(mask >> (number - 1) & 1 for mask in masks)


class Deadline:
    """environ["pyfpm.deadline"]: until when the request in hand may take."""

    __slots__ = ("_numbers",)

    def __init__(self, slot: Slot) -> None:
        self._numbers = slot.numbers

    @property
    def remaining(self) -> float:
        """Seconds left, 0.0 when the time is over."""
        until = self._numbers[DEADLINE]
        return 0.0 if until == RAISED else max(0.0, (until - time.monotonic_ns()) / 1e9)

    def extend(self, seconds: float) -> None:
        """Let the request take so many seconds from now; never less than it had. ValueError beyond a year."""
        if not 0 <= seconds <= LONGEST_EXTENSION:
            raise ValueError(f"{seconds!r} is not from 0 to {LONGEST_EXTENSION:.0f} seconds")
        until = time.monotonic_ns() + int(seconds * 1e9)
        self._numbers[DEADLINE] = max(self._numbers[DEADLINE], until)


def may_be_interrupted(frame: FrameType | None) -> bool:
    """Whether an exception raised in `frame` hits the application, and not our own bookkeeping round it.

    The application is what `Response.run` has called. Of our own code below it (the answer's blocks on their way to
    the peer, the body's pieces on theirs to the application) only the wait for the peer is a place to break off.
    Told by the frames and not by a flag, which each request would have to set and to clear.
    """
    if frame is None:
        return False
    ours = frame.f_code.co_filename.startswith(_PACKAGE)
    if ours and frame.f_code is not Connection._wait_for.__code__:
        return False
    at: FrameType | None = frame
    while at is not None:
        if at.f_code is Response.run.__code__:
            return True
        at = at.f_back
    return False
