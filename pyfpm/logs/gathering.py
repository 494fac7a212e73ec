"""Printed lines that belong together, gathered to one event: a traceback, a message of several lines.

Runs in: master, as root.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at; each line is in some event, in its order.

A pipe has no message boundaries, but there are two things to go by. What is there together when the pipe has run dry
was written at once, mostly: there, indented lines and a traceback belong to the line before them. And Python
writes a traceback in pieces, but its form tells where it goes on: frames are indented, the exception's line is not,
and a few sentences link one exception to another. So an event with a traceback is also held beyond a dry pipe, for as
long as whoever reads the pipe finds right. Nothing tells where the text of an exception ends: its first line counts.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfpm.logs.layouts import Frame

MOST_LINES = 200  # of one event; what follows is in another
_INDENTED = (b" ", b"\\t")  # as text that was made fit for JSON has them
_HEADER = b"Traceback (most recent call last):"
_GROUP = b"+ Exception Group Traceback (most recent call last):"
_OPENINGS = (b"Exception in thread ", b"Exception ignored in")
_LINKS = (
    b"",
    b"During handling of the above exception, another exception occurred:",
    b"The above exception was the direct cause of the following exception:",
)


class Part(Enum):
    """What the last line of an event was."""

    PLAIN = "no traceback"
    OPENING = "what stands before a traceback"
    FRAMES = "its frames"
    RAISED = "its exception"
    LINK = "what links it to another"


def begin(line: bytes) -> Part:
    """What an event's first line is."""
    if line == _HEADER:
        return Part.FRAMES
    if line.lstrip() == _GROUP:
        return Part.RAISED  # all of a group is indented
    return Part.OPENING if line.startswith(_OPENINGS) else Part.PLAIN


def go_on(part: Part, line: bytes) -> Part | None:
    """What the next line is, if it belongs to the same event."""
    if line.startswith(_INDENTED):
        return part
    if line == _HEADER:
        return Part.FRAMES if part in (Part.PLAIN, Part.OPENING, Part.LINK) else None
    if part is Part.FRAMES:
        return Part.RAISED
    if part in (Part.RAISED, Part.LINK) and line in _LINKS:
        return Part.LINK
    return None


class Gathering:
    """The event that is gathered now, if there is one."""

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._lines: list[bytes] = []
        self._part = Part.PLAIN

    @property
    def is_open(self) -> bool:
        """There is an event that may go on, though nothing of it can be read."""
        return bool(self._lines) and self._part is not Part.PLAIN

    def add(self, frame: Frame, line: bytes) -> bytes:
        """Take in a line; the event that was before it, if it begins another."""
        part = go_on(self._part, line) if self._lines else None
        if part is not None and len(self._lines) < MOST_LINES:
            self._lines.append(line)
            self._part = part
            return b""
        before = self.give()
        self._frame, self._lines, self._part = frame, [line], part or begin(line)
        return before

    def give(self) -> bytes:
        """The event as it is; nothing is held then."""
        frame, lines, self._lines = self._frame, self._lines, []
        if frame is None or frame.joint is None or not lines:
            return b""
        return frame.start + frame.joint.join(lines) + frame.stop
