"""The daemon's log and those of its pools: `[21-Nov-2026 20:52:49] NOTICE: [pool www] text`, or JSON.

Runs in: master, as root; anyone at the command line.   Not pure: it writes, and asks for the master's pid.
Fails by: a line that cannot be written is lost and counted, and the count is logged when writing works again.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.logs.events import Event, Level, Manner
from pyfpm.logs.files import LogFile
from pyfpm.logs.layouts import Frame, Layout, Reader
from pyfpm.logs.syslog import Syslog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyfpm.catalogue import Code

__all__ = ["ErrorLog", "Level", "Manner", "PoolLog", "Sink", "is_journal"]

STDERR = 2
Sink = LogFile | Syslog
STDERR_PATIENCE_MS = 1000  # for a reader of what the start says, a pager perhaps; then it is not waited for
PIECE = 4096  # PIPE_BUF: where poll(2) says that there is room, a pipe takes so much at once


def is_journal(environ: Mapping[str, str], descriptor: int = STDERR) -> bool:
    """Whether a descriptor leads to systemd's journal: systemd.exec(5), JOURNAL_STREAM."""
    with contextlib.suppress(OSError):
        status = os.fstat(descriptor)
        return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return False


class ErrorLog:
    """Says what happened, first to standard error, then to the sink of `write_to`."""

    def __init__(self, level: Level = Level.NOTICE, limit: int = 1024, *, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._manner = Manner(level, limit)
        self._stderr_layout = Layout(Reader.JOURNAL if is_journal(os.environ) else Reader.FILE)
        self._sink: Sink | None = None
        self._layout = self._stderr_layout
        self._mirror = True

    @property
    def manner(self) -> Manner:
        return self._manner

    def speak(self, manner: Manner) -> None:
        """From now on in this manner; the logs of pools follow."""
        self._manner = manner

    def write_to(self, sink: Sink | None) -> None:
        """From now on lines go to this sink; None: plainly to standard error, as at the beginning."""
        self._sink = sink
        if sink is None or sink.is_stderr:
            self._layout = self._stderr_layout
        else:
            self._layout = Layout(Reader.SYSLOG if isinstance(sink, Syslog) else Reader.FILE)

    @property
    def sink(self) -> Sink | None:
        """What lines go to; None as long as there is only standard error."""
        return self._sink

    def launched(self) -> None:
        """The start is over: what it had to say was seen, from now on only the sink is written."""
        self._mirror = False

    def reopen(self) -> None:
        """Open the file anew. OSError: it could not be opened, and the old one stays in use."""
        if self._sink is not None:
            self._sink.reopen()

    def debug(self, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.DEBUG, None, text, pool, detail)

    def notice(self, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.NOTICE, None, text, pool, detail)

    def warning(self, code: Code, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.WARNING, code, text, pool, detail)

    def error(self, code: Code, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.ERROR, code, text, pool, detail)

    def alert(self, code: Code, text: str, pool: str | None = None, detail: str = "") -> None:
        self.say(Level.ALERT, code, text, pool, detail)

    def say(self, level: Level, code: Code | None, text: str, pool: str | None = None, detail: str = "") -> None:
        """One event. Each line of `detail` (a traceback) becomes a line with the same head, or all one JSON object."""
        if level >= self.manner.level:
            self.tell(Event(self.clock(), level, text, os.getpid(), pool, detail, code=code))

    def relay(self, level: Level, code: Code | None, text: str, pool: str, speaker: str, pid: int) -> None:
        """What a process of a pool wants logged: `text` may have lines of detail, `speaker` is its name for people."""
        if level >= self.manner.level:
            first, _, detail = text.partition("\n")
            self.tell(Event(self.clock(), level, first, pid, pool, detail, speaker, code=code))

    def tell(self, event: Event) -> None:
        manner = self.manner
        self._write(b"".join(self._layout.lines(event, manner)))
        if self._mirror and event.level >= Level.NOTICE and self._sink is not None and not self._sink.is_stderr:
            _write_stderr(b"".join(self._stderr_layout.lines(event, manner)))

    def frame(self, pool: str, pid: int, stream: str, *, decorate: bool) -> Frame:
        """What stands round a line that a worker begins to print now."""
        event = Event(self.clock(), Level.WARNING, "", pid, pool, stream=stream)
        return self._layout.frame(event, self.manner, decorate=decorate)

    def raw(self, lines: bytes) -> None:
        """Finished lines, newlines included: a worker's output. No level hides it."""
        if lines:
            self._write(lines)

    def _write(self, lines: bytes) -> None:
        sink = self._sink
        if sink is None:
            _write_stderr(lines)
            return
        if sink.write(lines) and sink.lost:
            lost, reason = sink.take_lost()
            self.warning(catalogue.LINES_LOST, f"{lost} log lines were lost: {reason}")


class PoolLog(ErrorLog):
    """The log of a pool that may have a file of its own.

    That file has all that is said of the pool, and all that its processes say and print. The daemon's log has the
    former in any case, and the latter only where the pool has no file.
    """

    def __init__(self, above: ErrorLog, sink: Sink | None = None) -> None:
        super().__init__(clock=above.clock)
        self._above = above
        self._mirror = False
        self.write_to(sink)

    @property
    def manner(self) -> Manner:
        return self._above.manner

    def say(self, level: Level, code: Code | None, text: str, pool: str | None = None, detail: str = "") -> None:
        if self._sink is not None:
            super().say(level, code, text, pool, detail)
        self._above.say(level, code, text, pool, detail)

    def relay(self, level: Level, code: Code | None, text: str, pool: str, speaker: str, pid: int) -> None:
        if self._sink is None:
            self._above.relay(level, code, text, pool, speaker, pid)
        else:
            super().relay(level, code, text, pool, speaker, pid)

    def frame(self, pool: str, pid: int, stream: str, *, decorate: bool) -> Frame:
        if self._sink is None:
            return self._above.frame(pool, pid, stream, decorate=decorate)
        return super().frame(pool, pid, stream, decorate=decorate)

    def raw(self, lines: bytes) -> None:
        if self._sink is None:
            self._above.raw(lines)
        else:
            super().raw(lines)


def _write_stderr(lines: bytes) -> None:
    """For the command line and the start; a daemon that has none but standard error has a LogFile for it."""
    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    with contextlib.suppress(OSError):  # closed or full: there is nobody left to tell
        for at in range(0, len(lines), PIECE):
            if not poll.poll(STDERR_PATIENCE_MS):
                return
            os.write(STDERR, lines[at : at + PIECE])
