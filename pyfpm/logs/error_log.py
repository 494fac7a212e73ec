"""The daemon's log, in PHP-FPM's lines: `[21-Nov-2026 20:52:49] NOTICE: [pool www] text`.

Runs in: master, as root; anyone at the command line.   Not pure: it writes, and asks for the master's pid.
Fails by: a line that cannot be written is lost and counted, and the count is logged when writing works again.
"""

from __future__ import annotations

import contextlib
import os
import select
from enum import IntEnum
from typing import TYPE_CHECKING

from pyfpm.logs.escapes import escape_line
from pyfpm.logs.timestamp import stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.logs.files import LogFile

STDERR = 2
STDERR_PATIENCE_MS = 1000  # for a reader of what the start says, a pager perhaps; then it is not waited for
PIECE = 4096  # PIPE_BUF: where poll(2) says that there is room, a pipe takes so much at once


class Level(IntEnum):
    """How bad: warning is odd and going on; error lost a request or a child; alert lost a pool or the daemon."""

    DEBUG = 1
    NOTICE = 2
    WARNING = 3
    ERROR = 4
    ALERT = 5


class ErrorLog:
    """Says what happened, first to standard error, then to the file of `write_to`."""

    def __init__(self, level: Level = Level.NOTICE, limit: int = 1024, *, clock: Callable[[], float]) -> None:
        self.level = level
        self.limit = limit
        self._clock = clock
        self._stamp = stamp("%d-%b-%Y %H:%M:%S")
        self._file: LogFile | None = None
        self._mirror = True

    def write_to(self, file: LogFile | None) -> None:
        """From now on lines go to this file; None: plainly to standard error, as at the beginning."""
        self._file = file

    @property
    def file(self) -> LogFile | None:
        """What lines go to; None as long as there is only standard error."""
        return self._file

    def launched(self) -> None:
        """The start is over: what it had to say was seen, from now on only the file is written."""
        self._mirror = False

    def reopen(self) -> None:
        """Open the file anew. OSError: it could not be opened, and the old one stays in use."""
        if self._file is not None:
            self._file.reopen()

    def debug(self, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.DEBUG, text, pool, detail)

    def notice(self, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.NOTICE, text, pool, detail)

    def warning(self, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.WARNING, text, pool, detail)

    def error(self, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.ERROR, text, pool, detail)

    def alert(self, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.ALERT, text, pool, detail)

    def say(self, level: Level, text: str, pool: str | None = None, detail: str = "") -> None:
        """One event. Each line of `detail` (a traceback) becomes a line with the same head."""
        if level < self.level:
            return
        head = self.head(level)
        if pool is not None:
            head += escape_line(f"[pool {pool}] ")
        parts = (text, *detail.rstrip("\n").split("\n")) if detail else (text,)
        lines = b"".join(self._cut(head + escape_line(part)) for part in parts)
        self._write(lines)
        if self._mirror and level >= Level.NOTICE and self._file is not None and not self._file.is_stderr:
            _write_stderr(lines)

    def raw(self, lines: bytes) -> None:
        """Finished lines, newlines included: a worker's output. No level hides it."""
        if lines:
            self._write(lines)

    def head(self, level: Level = Level.WARNING) -> bytes:
        """The beginning of a line of now, up to and with the blank before the text."""
        now = self._clock()
        if self.level is not Level.DEBUG:
            return f"[{self._stamp(now)}] {level.name}: ".encode()
        # As PHP-FPM: who debugs wants microseconds and the pid, on lines of every level.
        return f"[{self._stamp(now)}.{int(now % 1 * 1e6):06d}] {level.name}: pid {os.getpid()}, ".encode()

    def _cut(self, line: bytes) -> bytes:
        if len(line) < self.limit:
            return line + b"\n"
        # decode(..., "ignore") drops the half of a character at the cut.
        return line[: self.limit - 4].decode("utf-8", "ignore").encode() + b"...\n"

    def _write(self, lines: bytes) -> None:
        file = self._file
        if file is None:
            _write_stderr(lines)
            return
        if file.write(lines) and file.lost:
            lost, reason = file.take_lost()
            self.warning(f"{lost} log lines were lost: {reason}")


def _write_stderr(lines: bytes) -> None:
    """For the command line and the start; a daemon that has none but standard error has a LogFile for it."""
    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    with contextlib.suppress(OSError):  # closed or full: there is nobody left to tell
        for at in range(0, len(lines), PIECE):
            if not poll.poll(STDERR_PATIENCE_MS):
                return
            os.write(STDERR, lines[at : at + PIECE])
