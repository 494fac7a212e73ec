"""What one worker writes to its stdout or stderr, cut into lines of the error log.

Runs in: master, as root.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at. Any bytes make lines, and never more than one unfinished line is held.

The lines belong to the application. `log_level` chooses among pyfpm's own messages and does not hide them:
in PHP-FPM they vanish at `log_level = error`, with the traceback that somebody needed. Who does not want
them says `catch_workers_output = no`.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from pyfpm.logs.escapes import cut, escape_line, escape_quoted

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_ROOM = 16  # for text in a line, however long the pool's name is


class OutputLines:
    """One pipe of one worker: bytes in, whole lines of at most `limit` bytes out.

    `head` gives the beginning of a decorated line (time and level). It is asked when the first bytes of a
    line arrive, so a line shows when it was begun. Without `buffering` the piece of a line that one read
    brings is given out at once, as a line of its own, instead of waiting for its end.
    """

    def __init__(
        self,
        pool: str,
        pid: int,
        stream: str,
        *,
        head: Callable[[], bytes],
        limit: int = 1024,
        decorate: bool = True,
        buffering: bool = True,
    ) -> None:
        self._head = head
        self._who = escape_line(f"[pool {pool}] child {pid} said into {stream}: ") + b'"'
        self._limit = limit
        self._decorate = decorate
        self._buffering = buffering
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._start = b""  # what stands before the text, and after it
        self._stop = b'"\n' if decorate else b"\n"
        self._begun = False  # a line was begun and its newline has not come
        self._silent = True  # nothing of it was given out
        self._held = b""  # the end of it, not yet given out

    def feed(self, data: bytes) -> list[bytes]:
        """Finished lines, newline included. Takes linear time and keeps less than one line."""
        lines: list[bytes] = []
        *ended, rest = data.split(b"\n")
        for text in ended:
            self._add(self._show(text, whole=True), lines)
            self._end(lines)
        if rest:
            self._add(self._show(rest), lines)
            if not self._buffering:
                self._give(self._held, lines)
        return lines

    def finish(self) -> list[bytes]:
        """The pipe has ended; what came without a newline is a line too."""
        lines: list[bytes] = []
        self._add(self._show(b"", whole=True), lines)
        self._give(self._held, lines)
        return lines

    def skip(self, data: bytes) -> int:
        """Leave `data` out, with what is held of the line that it goes on. How many lines that were, one at least."""
        self._decoder.reset()
        self._held = b""
        self._begun = False
        return max(data.count(b"\n"), 1)

    def _show(self, data: bytes, *, whole: bool = False) -> bytes:
        # Plain output is the application's own, colours and all; it is decorate that makes it one of our lines.
        return escape_quoted(self._decoder.decode(data, whole)) if self._decorate else data

    def _add(self, text: bytes, lines: list[bytes]) -> None:
        if not self._begun:
            self._begin()
        text = self._held + text
        room = max(self._limit - len(self._start) - len(self._stop), LEAST_ROOM)
        at = 0
        while len(text) - at > room:
            end = at + (cut(text[at : at + room + 1], room) if self._decorate else room)
            self._give(text[at:end], lines)
            at = end
        self._held = text[at:]

    def _begin(self) -> None:
        self._begun = True
        self._silent = True
        if self._decorate:
            self._start = self._head() + self._who

    def _give(self, text: bytes, lines: list[bytes]) -> None:
        if text:
            lines.append(self._start + text + self._stop)
            self._silent = False
        self._held = b""

    def _end(self, lines: list[bytes]) -> None:
        if self._held or self._silent:  # an empty line is a line, the end of one that has gone out is not
            lines.append(self._start + self._held + self._stop)
        self._held = b""
        self._begun = False
