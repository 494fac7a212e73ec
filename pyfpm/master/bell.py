"""The bell of a generation: a pipe by which a worker that leaves too few idle ones wakes the master.

Runs in: master.
Fails by: OSError when there is no descriptor to be had.
"""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfpm.master.loop import Loop

# A tenant can ring as often as it likes; it is heard so often at most.
PAUSE = 0.005
# More than a pipe holds by default. What is left, if a tenant has made the pipe larger, is heard after the pause.
READ_SIZE = 65536


class Bell:
    """Heard by the loop from its making on. `rope` is the end that the workers hold."""

    def __init__(self, loop: Loop) -> None:
        # Not an eventfd: O_NONBLOCK belongs to an open file, so a tenant that shares it could make us wait. Of a pipe
        # the end that is read is the master's alone.
        self._ear, self.rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._deaf_until = math.inf  # while it is listened to
        self._loop = loop
        loop.watch(self._ear, self._on_ring)

    def next_due(self) -> float:
        """When to listen again; inf while it is listened to."""
        return self._deaf_until

    def listen_again(self, now: float) -> None:
        """If the pause is over."""
        if now >= self._deaf_until:
            self._loop.watch(self._ear, self._on_ring)
            self._deaf_until = math.inf

    def close(self) -> None:
        self._loop.forget(self._ear)
        os.close(self._ear)
        os.close(self.rope)

    def _on_ring(self, now: float) -> None:
        """Somebody rings: being awake is enough. Then a moment of deafness, for a tenant may ring without end."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._ear, READ_SIZE)
        self._loop.forget(self._ear)
        self._deaf_until = now + PAUSE
