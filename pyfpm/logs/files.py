"""A log file: whole lines appended, reopened for rotation, and never in the way of who writes.

Runs in: master, as root.   Not pure: it opens and writes.
Fails by: OSError when a file cannot be opened. Writing never raises: lines that a full disk or a stuck
reader refuses are counted in `lost`, for the owner to say so when writing works again.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable

from pyfpm.logs.patience import Patience

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
_PIECE = 4096  # PIPE_BUF: where poll(2) says that there is room, a pipe takes so much at once


Opener = Callable[[str, int], int]  # (path, mode of a new file) → descriptor


def open_plainly(path: str, mode: int) -> int:
    return os.open(path, FLAGS, mode)


class LogFile:
    """One open log. `None` as path means the inherited standard error.

    `opener` is for who has to be careful about what the path may lead to: it opens the file, at first and anew.
    """

    def __init__(self, path: str | None, mode: int = 0o600, opener: Opener = open_plainly) -> None:
        self.path = path
        self.lost = 0
        self.reason = ""
        self._mode = mode
        self._opener = opener
        self._torn = False
        self._inherited = 2 if path is None else INHERITED.get(path)
        self._patience = Patience()
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

    def write(self, lines: bytes) -> bool:
        """Append whole lines, one or more. False: some were lost, and counted."""
        whole = b"\n" + lines if self._torn else lines
        done = 0
        try:
            while done < len(whole):
                done += self._write_some(whole, done)
        except OSError as error:
            self.lost += whole.count(b"\n", done)
            self.reason = error.strerror or str(error)
            if done:
                self._torn = whole[done - 1] != ord("\n")  # then the next line starts on a new line
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
            return _copy(self._inherited)
        assert self.path is not None
        return self._opener(self.path, self._mode)

    def _write_some(self, whole: bytes, done: int) -> int:
        if not self._may_block:
            return os.write(self._fd, whole[done:] if done else whole)
        if not self._patience.wait(self._fd, is_stuck=self.lost > 0):
            raise BlockingIOError(0, "nobody reads it")
        end = done + _PIECE
        if end < len(whole):  # whole lines, if one fits: another process may write to the same pipe
            end = whole.rfind(b"\n", done, end) + 1 or end
        return os.write(self._fd, whole[done:end])


def _copy(inherited: int) -> int:
    """A descriptor of our own: whoever puts something else on descriptor 2 later does not redirect the log.

    A pipe or terminal is opened anew if it can be: O_NONBLOCK on a duplicate would be everybody's, the shell's too.
    """
    mode = os.fstat(inherited).st_mode
    if stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and os.isatty(inherited)):
        try:
            return os.open(f"/proc/self/fd/{inherited}", FLAGS & ~os.O_CREAT)
        except OSError:
            pass
    return fcntl.fcntl(inherited, fcntl.F_DUPFD_CLOEXEC, 3)
