"""Time limits of a request, the worker's part: stacks on a signal, the exception, and the deadline that may be moved.

Runs in: worker, as the pool's user, Python 3.9 and up.
Fails by: nothing; a signal that is not free is left to the application, and no stacks are shown.
"""

from __future__ import annotations

import faulthandler  # here, in the template, and shared: its import costs each worker 120 kB otherwise
import signal
import time
from signal import getsignal

from pyfpm.gateway.body import Input
from pyfpm.gateway.response import FileWrapper, Response
from pyfpm.scoreboard import DEADLINE, RAISED
from pyfpm.worker.access_log import AccessLog
from pyfpm.worker.application import PACKAGE
from pyfpm.worker.connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

    from pyfpm.scoreboard import Slot

LONGEST_EXTENSION = 365 * 86400.0  # seconds, as of any duration in the configuration


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
    if getsignal(number) is not signal.SIG_DFL:
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


def _codes(*functions: Any) -> frozenset[CodeType]:
    return frozenset(function.__code__ for function in functions)


# The only frames of ours that RequestTimeout may pass. Whatever is not here, has something half done.
#
# These ask the application for the answer. Where they stand while it works, and between two blocks, all is in order:
# what has been given is out and counted. (An iterable in C has no frame of its own: they are on top then.)
_ASK_FOR_THE_ANSWER = _codes(Response._run_blocks, Response._iterator, FileWrapper.__next__)
# These wait for the peer, as long as it is `_wait_for` that is on top: nothing is read by then that is not kept, and
# what is not out of a record is in `Connection._left`. Of a body a part may be lost, and `Input._failure` tells so.
_WAIT = Connection._wait_for.__code__
_ASK_THE_PEER = _codes(
    Connection._wait_for, Connection._receive, Connection.more, Connection._send_patiently, Connection.send,
    Input._next, Input._take, Input.read, Input.readline, Input.readlines, Input.__next__,
    AccessLog._note_and_send, Response._send_large, Response._send_end, Response._block, Response._close,
    Response.write, Response._run_one, Response._run_blocks,
)  # fmt: skip
_RUN = Response.run.__code__


def may_be_interrupted(frame: FrameType | None) -> bool:
    """Whether an exception raised in `frame` hits the application, and not our own bookkeeping round it or below it.

    The application is what `Response.run` has called, with all that it calls itself; where that is of ours, the
    exception comes out of our code, and must not find it in the midst of something. Told by the frames and not by a
    flag, which each request would have to set and to clear.
    """
    at = frame
    if at is not None and at.f_code is _WAIT:
        while at is not None and at.f_code in _ASK_THE_PEER:
            at = at.f_back
    while at is not None and at.f_code is not _RUN:
        if at.f_code.co_filename.startswith(PACKAGE) and at.f_code not in _ASK_FOR_THE_ANSWER:
            return False
        at = at.f_back
    return at is not None and at is not frame  # on top, `run` may have an iterable in hand that it has yet to close
