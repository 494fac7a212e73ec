"""Ask a worker for its stacks, and take what it writes.

Runs in: master.
Fails by: nothing; a worker that does not answer has no stacks to show.

The signal is handled by faulthandler, in C, whatever the worker is doing. What comes through the pipe has no end mark:
a dump is written in one go and takes a few milliseconds, so it has ended when nothing more has come for a moment.
"""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING

from pyfpm.master import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.master.children import Child
    from pyfpm.master.loop import Loop

MOST_TEXT = 64 * 1024
QUIET = 0.02  # seconds
PATIENCE = 1.0  # a worker in uninterruptible sleep, or without any CPU, writes late or never
READ_SIZE = 65536


class Dump:
    """One question and its answer. `tell` gets the text and the time when it is there; b"" for no answer."""

    def __init__(self, child: Child, number: int, loop: Loop, now: float, tell: Callable[[bytes, float], None]) -> None:
        self.is_done = False
        self._pipe = child.trace
        self._loop = loop
        self._tell = [tell]
        self._text = b""
        self._until = now + PATIENCE
        self._quiet_from = math.inf
        self._take()  # what nobody asked for
        self._text = b""
        if number and child.main_thread and processes.catches(child.pid, number):
            processes.send_signal(child.pidfd, number)
            loop.watch(self._pipe, self._on_readable)
        else:
            self._until = now

    def tell_too(self, tell: Callable[[bytes, float], None]) -> None:
        """Somebody else wants to know the same."""
        self._tell.append(tell)

    @property
    def due(self) -> float:
        """When `look_after` should be called."""
        return min(self._until, self._quiet_from)

    def look_after(self, now: float) -> None:
        if now >= self.due:
            self.end(now)

    def end(self, now: float) -> None:
        """Take what there is and tell it."""
        if self.is_done:
            return
        self.is_done = True
        self._take()
        self._loop.forget(self._pipe)
        for tell in self._tell:
            tell(self._text, now)

    def _on_readable(self, now: float) -> None:
        if self._take():
            self._quiet_from = now + QUIET
        else:
            self.end(now)  # closed

    def _take(self) -> bool:
        """Read what is there, at most a pipe's worth; False at its end."""
        with contextlib.suppress(BlockingIOError, OSError):
            text = os.read(self._pipe, READ_SIZE)
            self._text = (self._text + text)[:MOST_TEXT]
            return bool(text)
        return True
