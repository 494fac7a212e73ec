"""What one worker writes to its stdout or stderr, cut into lines of the error log.

Runs in: master, as root.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at. Any bytes make lines, and never more than one unfinished line, or event, is held.

The lines belong to the application. `log_level` chooses among pyfpm's own messages and does not hide them:
in PHP-FPM they vanish at `log_level = error`, with the traceback that somebody needed. Who does not want
them says `catch_workers_output = no`.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from pyfpm.logs.escapes import cut
from pyfpm.logs.gathering import Gathering

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.logs.layouts import Frame

LEAST_ROOM = 16  # for text in a line, however long the pool's name is


class OutputLines:
    """One pipe of one worker: bytes in, whole lines of at most `limit` bytes out.

    `frame` gives what stands round a line, time included. It is asked when the first bytes of a line arrive, so a
    line shows when it was begun. Without `buffering` the piece of a line that one read brings is given out at once, as
    a line of its own, instead of waiting for its end. Where the frame has a joint, lines that belong together are one
    event, which is given out by `pause` or later.
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
        self._gathering = Gathering()

    def feed(self, data: bytes) -> list[bytes]:
        """Finished lines, newline included. Takes linear time and keeps less than one line, and one event."""
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

    @property
    def is_open(self) -> bool:
        """An event is held that may go on."""
        return self._gathering.is_open

    def pause(self) -> bytes:
        """There is nothing more to read now: the event that is held, unless it may go on."""
        return b"" if self._gathering.is_open else self._gathering.give()

    def settle(self) -> bytes:
        """It has not gone on for long enough: the event that is held."""
        return self._gathering.give()

    def finish(self) -> list[bytes]:
        """The pipe has ended; what came without a newline is a line too."""
        lines: list[bytes] = []
        self._add(b"", lines, whole=True)
        self._give(self._held, lines)
        lines.append(self._gathering.give())
        return [line for line in lines if line]

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
        """A piece of a line that goes on, or of the last one: an event of its own."""
        if text:
            self._put(text, lines, whole=False)
            self._silent = False
        self._held = b""

    def _end(self, lines: list[bytes]) -> None:
        if self._held or self._silent:  # an empty line is a line, the end of one that has gone out is not
            self._put(self._held, lines, whole=self._silent)
        self._held = b""
        self._begun = False

    def _put(self, text: bytes, lines: list[bytes], *, whole: bool) -> None:
        frame = self._frame
        if frame.joint is not None and whole and self._buffering:
            if before := self._gathering.add(frame, text):
                lines.append(before)
            return
        if before := self._gathering.give():
            lines.append(before)
        lines.append(frame.start + text + frame.stop)
