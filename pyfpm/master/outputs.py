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
    from pyfpm.master.quota import Quota

# Bytes of one read. Of newlines alone each becomes a line of a hundred bytes: 5 ms of the master's time at most.
READ_SIZE = 4096
SKIP_SIZE = 65536  # of one read whose bytes are left out anyway, and only counted
# What one process may say before the others get their turn, in bytes read and in bytes written to the log.
READ_A_TURN = 65536
WRITTEN_A_TURN = 128 * 1024
# And what is still taken from a process that has ended: a pipe that is full, and a tenant may make it as large as
# /proc/sys/fs/pipe-max-size. A grandchild may hold it open and write for ever.
READ_AT_END = 1 << 20
# A traceback is printed in pieces, and between two of them the pipe may be dry. Its printer needs microseconds, but it
# may have to wait for its turn on a busy machine.
EVENT_GOES_ON = 0.05  # seconds
WRITTEN_AT_END = 1 << 20


class Output:
    """The reading end of a process's stdout or stderr."""

    def __init__(self, descriptor: int, lines: OutputLines, log: ErrorLog, loop: Loop, quota: Quota) -> None:
        self.descriptor = descriptor
        self._lines = lines
        self._log = log
        self._loop = loop
        self._quota = quota
        os.set_blocking(descriptor, False)
        loop.watch(descriptor, self._on_readable)

    def close(self) -> None:
        """Take what is there, and end the last line."""
        if self.descriptor < 0:
            return
        self._take(READ_AT_END, WRITTEN_AT_END, skip_the_rest=True)
        self._end()

    def _on_readable(self, now: float) -> None:
        self._quota.refill(now)
        if not self._take(READ_A_TURN, WRITTEN_A_TURN):
            self._end()
        elif self._lines.is_open:
            self._loop.remind(self._settle, now + EVENT_GOES_ON)

    def _settle(self, _now: float) -> None:
        self._write(self._lines.settle())

    def _take(self, most_read: int, most_written: int, *, skip_the_rest: bool = False) -> bool:
        """Log what can be read; False at the end of the pipe."""
        read = written = 0
        while read < most_read:
            skip = not self._quota.has_room or written >= most_written
            try:
                text = os.read(self.descriptor, SKIP_SIZE if skip else READ_SIZE)
            except BlockingIOError:
                self._write(self._lines.pause())
                return True
            except OSError:
                return False
            if not text:
                return False
            read += len(text)
            if skip:
                self._quota.leave_out(self._lines.skip(text))
                continue
            lines = b"".join(self._lines.feed(text))
            self._write(lines)
            written += len(lines)
            if written >= most_written and not skip_the_rest:
                return True
        return True

    def _write(self, lines: bytes) -> None:
        self._log.raw(lines)
        self._quota.charge(len(lines))

    def _end(self) -> None:
        self._loop.forget(self.descriptor)
        self._loop.forget_reminder(self._settle)
        os.close(self.descriptor)
        self.descriptor = -1
        self._log.raw(b"".join(self._lines.finish()))
