"""What a process prints, from its pipe to the error log.

Runs in: master.
Fails by: nothing; a pipe that breaks has ended.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.logs.worker_output import OutputLines
    from pyfpm.master.loop import Loop

READ_SIZE = 65536
# What one process may say before the others get their turn, and what is still taken from a process that has ended: a
# grandchild may hold the pipe open and write for ever.
READS_A_TURN = 4
READS_AT_END = 64


class Output:
    """The reading end of a process's stdout or stderr."""

    def __init__(self, descriptor: int, lines: OutputLines, log: ErrorLog, loop: Loop) -> None:
        self.descriptor = descriptor
        self._lines = lines
        self._log = log
        self._loop = loop
        os.set_blocking(descriptor, False)
        loop.watch(descriptor, self._on_readable)

    def close(self) -> None:
        """Take what is there, and end the last line."""
        if self.descriptor < 0:
            return
        self._take(READS_AT_END)
        self._end()

    def _on_readable(self, _now: float) -> None:
        if not self._take(READS_A_TURN):
            self._end()

    def _take(self, reads: int) -> bool:
        """Log what can be read; False at the end of the pipe."""
        for _ in range(reads):
            try:
                text = os.read(self.descriptor, READ_SIZE)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not text:
                return False
            for line in self._lines.feed(text):
                self._log.raw(line)
        return True

    def _end(self) -> None:
        self._loop.forget(self.descriptor)
        os.close(self.descriptor)
        self.descriptor = -1
        for line in self._lines.finish():
            self._log.raw(line)
