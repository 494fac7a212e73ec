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

from pyfpm.logs.escapes import cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.logs.layouts import Frame

LEAST_ROOM = 16  # for text in a line, however long the pool's name is


class OutputLines:
    """One pipe of one worker: bytes in, whole lines of at most `limit` bytes out.

    `frame` gives what stands round a line, time included. It is asked when the first bytes of a line arrive, so a
    line shows when it was begun. Without `buffering` the piece of a line that one read brings is given out at once, as
    a line of its own, instead of waiting for its end.
    """

    def __init__(self, frame: Callable[[], Frame], *, limit: int = 1024, buffering: bool = True) -> None:
        self._ask_frame = frame
        self._limit = limit
        self._buffering = buffering
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._frame = frame()
        self._begun = False  # a line was begun and its newline has not come
        self._silent = True  # nothing of it was given out
        self._held = b""  # the end of it, not yet given out

    def feed(self, data: bytes) -> list[bytes]:
        """Finished lines, newline included. Takes linear time and keeps less than one line."""
        lines: list[bytes] = []
        *ended, rest = data.split(b"\n")
        for text in ended:
            self._add(text, lines, whole=True)
            self._end(lines)
        if rest:
            self._add(rest, lines)
            if not self._buffering:
                self._give(self._held, lines)
        return lines

    def finish(self) -> list[bytes]:
        """The pipe has ended; what came without a newline is a line too."""
        lines: list[bytes] = []
        self._add(b"", lines, whole=True)
        self._give(self._held, lines)
        return lines

    def skip(self, data: bytes) -> int:
        """Leave `data` out, with what is held of the line that it goes on. How many lines that were, one at least."""
        self._decoder.reset()
        self._held = b""
        self._begun = False
        return max(data.count(b"\n"), 1)

    def _add(self, data: bytes, lines: list[bytes], *, whole: bool = False) -> None:
        if not self._begun:
            self._begun = self._silent = True
            self._frame = self._ask_frame()
        frame = self._frame
        text = self._held + (frame.escape(self._decoder.decode(data, whole)) if frame.escape else data)
        room = max(self._limit - len(frame.start) - len(frame.stop), LEAST_ROOM)
        at = 0
        while len(text) - at > room:
            end = at + (cut(text[at : at + room + 1], room) if frame.escape else room)
            self._give(text[at:end], lines)
            at = end
        self._held = text[at:]

    def _give(self, text: bytes, lines: list[bytes]) -> None:
        if text:
            lines.append(self._frame.start + text + self._frame.stop)
            self._silent = False
        self._held = b""

    def _end(self, lines: list[bytes]) -> None:
        if self._held or self._silent:  # an empty line is a line, the end of one that has gone out is not
            lines.append(self._frame.start + self._held + self._frame.stop)
        self._held = b""
        self._begun = False
