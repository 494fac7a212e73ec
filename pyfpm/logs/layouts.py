"""How an event looks: PHP-FPM's lines or JSON objects, and before them what the reader of the log wants.

Runs in: master, as root; anyone at the command line.   Not pure: local time (timestamp.py), and the master's pid.
Fails by: nothing to fail at; every event has its lines, and every JSON object is one, whatever the text is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from pyfpm.logs.escapes import escape_end, escape_journal_json, escape_json, escape_line, escape_quoted
from pyfpm.logs.events import Event, Level, Manner
from pyfpm.logs.timestamp import iso_stamp, stamp


class Reader(Enum):
    """Who takes the lines. The journal and syslog know the time by themselves and want the priority."""

    FILE = "file"
    JOURNAL = "journal"
    SYSLOG = "syslog"


class Frame(NamedTuple):
    """What stands round a printed line, and how its text is escaped; None for "not at all".

    `joint` stands between the lines of one event, where an event can have several.
    """

    start: bytes
    stop: bytes
    escape: Callable[[str], bytes] | None
    joint: bytes | None = None


class Layout:
    """The looks of events for one reader."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._escape_json = escape_journal_json if reader is Reader.JOURNAL else escape_json
        self._stamp = stamp("%d-%b-%Y %H:%M:%S")
        self._syslog_stamp = stamp("%b %e %H:%M:%S")
        self._iso_stamp = iso_stamp()

    def lines(self, event: Event, manner: Manner) -> list[bytes]:
        """Lines with their newlines: one for the text and each of the detail, or one JSON object for all."""
        if manner.is_json:
            return [self._object(event, manner)]
        head = self._head(event, manner)
        detail = event.detail.rstrip("\n").split("\n") if event.detail else []
        who = f"{event.speaker} " if event.speaker else ""
        code = f" [{event.code}]".encode() if event.code else b""
        first, *more = [head + escape_line(who + part) for part in (event.text, *detail)]
        # Whatever is cut off, the code stays: it is what one looks for.
        lines = [_cut(first, manner.limit - len(code)) + code, *(_cut(line, manner.limit) for line in more)]
        return [line + b"\n" for line in lines]

    def frame(self, event: Event, manner: Manner, *, decorate: bool) -> Frame:
        """For lines that `event.pid` prints to `event.stream`."""
        if not decorate:
            # The application's own lines, colours and all. But the reader has its mark on each: without one, a line
            # that begins with <0> would choose its own priority in the journal, and go to every terminal.
            escape = escape_end if self.reader is Reader.JOURNAL else None
            return Frame(self._mark(event, manner), b"\n", escape)
        if manner.is_json:
            return Frame(self._mark(event, manner) + self._opening(event), b'"}\n', self._escape_json, rb"\n")
        said = escape_line(f"child {event.pid} said into {event.stream}: ")
        return Frame(self._head(event, manner) + said + b'"', b'"\n', escape_quoted)

    def _head(self, event: Event, manner: Manner) -> bytes:
        """The beginning of a line of text, up to and with the blank before the text."""
        head = f"{event.level.name}: "
        # As PHP-FPM: who debugs wants microseconds and the pid, on lines of every level.
        debug = manner.level is Level.DEBUG
        if debug:
            head += f"pid {os.getpid()}, "
        if self.reader is Reader.FILE:
            fraction = f".{int(event.time % 1 * 1e6):06d}" if debug else ""
            head = f"[{self._stamp(event.time)}{fraction}] {head}"
        whole = self._mark(event, manner) + head.encode()
        return whole if event.pool is None else whole + escape_line(f"[pool {event.pool}] ")

    def _mark(self, event: Event, manner: Manner) -> bytes:
        """What the reader takes off again: sd-daemon(3), RFC 3164."""
        if self.reader is Reader.FILE:
            return b""
        priority = event.level.priority
        if self.reader is Reader.JOURNAL:
            return b"<%d>" % priority
        when = self._syslog_stamp(event.time)
        return b"<%d>" % (manner.facility << 3 | priority) + escape_line(f"{when} {manner.ident}[{os.getpid()}]: ")

    def _object(self, event: Event, manner: Manner) -> bytes:
        who = f"{event.speaker} " if event.speaker else ""
        text = self._lines_of_json(who + event.text, manner.limit)
        whole = self._mark(event, manner) + self._opening(event) + text + b'"'
        if event.detail:
            whole += b',"detail":"' + self._lines_of_json(event.detail.rstrip("\n"), manner.limit) + b'"'
        return whole + b"}\n"

    def _lines_of_json(self, text: str, limit: int) -> bytes:
        """The inside of a JSON string, each line of it at most `limit` characters: one event may have many."""
        cut = [line if len(line) < limit else line[: limit - 4] + "..." for line in text.split("\n")]
        return b"\\n".join(map(self._escape_json, cut))

    def _opening(self, event: Event) -> bytes:
        """A JSON object up to the text of its message."""
        parts = [f'{{"time":"{self._iso_stamp(event.time)}","level":"{event.level.name.lower()}"'.encode()]
        if event.code is not None:
            parts.append(f'"code":"{event.code}"'.encode())
        if event.pool is not None:
            parts.append(b'"pool":"' + escape_json(event.pool) + b'"')
        parts.append(b'"pid":%d' % event.pid)
        if event.stream:
            parts.append(b'"stream":"' + escape_json(event.stream) + b'"')
        return b",".join(parts) + b',"message":"'


def _cut(line: bytes, limit: int) -> bytes:
    """At most `limit` bytes with the newline that follows."""
    if len(line) < limit:
        return line
    # decode(..., "ignore") drops the half of a character at the cut.
    return line[: limit - 4].decode("utf-8", "ignore").encode() + b"..."
