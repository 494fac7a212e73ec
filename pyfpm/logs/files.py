"""A log file: whole lines appended, reopened for rotation, and never in the way of who writes.

Runs in: master, as root.   Not pure: it opens and writes.
Fails by: OSError when a file cannot be opened. Writing never raises: lines that a full disk or a stuck
reader refuses are counted in `lost`, for the owner to say so when writing works again.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# In a container these may lead to a socket or to another user's pipe: opening them by path then fails (ENXIO,
# EACCES), while the descriptor that we inherited works.
INHERITED = {
    "/dev/stderr": 2,
    "/dev/fd/2": 2,
    "/proc/self/fd/2": 2,
    "/dev/stdout": 1,
    "/dev/fd/1": 1,
    "/proc/self/fd/1": 1,
}
# O_NONBLOCK: a FIFO without a reader is an error (ENXIO) instead of a master that hangs in open().
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
MODE = 0o600
_PATIENCE_MS = 100


class LogFile:
    """One open log. `None` as path means the inherited standard error. `opener` opens the path in another way."""

    def __init__(self, path: str | None, opener: Callable[[str], int] | None = None) -> None:
        self.path = path
        self.lost = 0
        self.reason = ""
        self._opener = opener
        self._torn = False
        self._inherited = 2 if path is None else INHERITED.get(path)
        self._fd = self._open()
        # A regular file takes a line at once, or is full. Anything else may make the writer wait.
        self._may_block = not stat.S_ISREG(os.fstat(self._fd).st_mode)

    def fileno(self) -> int:
        """The descriptor; the same number for the life of the log, also over reopen()."""
        return self._fd

    @property
    def is_stderr(self) -> bool:
        return self._inherited == 2

    def reopen(self) -> None:
        """Open the path anew (rotation). If that fails, the old file stays in use and OSError tells why."""
        if self._inherited is not None:
            return
        fresh = self._open()
        try:
            os.dup2(fresh, self._fd, inheritable=False)
        finally:
            os.close(fresh)
        self._may_block = not stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._torn = False

    def write(self, line: bytes) -> bool:
        """Append one line. False: it was lost, and counted."""
        whole = b"\n" + line if self._torn else line
        try:
            self._write_whole(whole)
        except OSError as error:
            self.lost += 1
            self.reason = error.strerror or str(error)
            return False
        self._torn = False
        return True

    def take_lost(self) -> tuple[int, str]:
        """How many lines were lost since the last call, and why the last one was."""
        lost, self.lost = self.lost, 0
        return lost, self.reason

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> int:
        if self._inherited is not None:
            # A copy: whoever puts something else on descriptor 2 later does not redirect the log.
            return fcntl.fcntl(self._inherited, fcntl.F_DUPFD_CLOEXEC, 3)
        assert self.path is not None
        return (self._opener or _open_file)(self.path)

    def _write_whole(self, line: bytes) -> None:
        if self._may_block:
            self._wait_writable()
        done = 0
        while done < len(line):
            done += os.write(self._fd, line[done:])
            self._torn = done < len(line)  # if the rest fails, the next line starts on a new line

    def _wait_writable(self) -> None:
        # A pipe that nobody reads would stop the master for ever. It gets a moment once, then none until it moves.
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0 if self.lost else _PATIENCE_MS):
            raise BlockingIOError(0, "nobody reads it")


def _open_file(path: str) -> int:
    return os.open(path, FLAGS, MODE)
