"""What a log is told: an event, how bad it is, and the manner in which logs tell events.

Runs in: master, as root; anyone at the command line.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pyfpm.catalogue import Code

DAEMON = 3  # syslog's facility for daemons


class Level(IntEnum):
    """How bad: warning is odd and going on; error lost a request or a child; alert lost a pool or the daemon."""

    DEBUG = 1
    NOTICE = 2
    WARNING = 3
    ERROR = 4
    ALERT = 5

    @property
    def priority(self) -> int:
        """The same for syslog(3) and the journal."""
        return _PRIORITIES[self]


_PRIORITIES = {Level.DEBUG: 7, Level.NOTICE: 5, Level.WARNING: 4, Level.ERROR: 3, Level.ALERT: 1}


class Event(NamedTuple):
    """Something that happened. `pid` is who tells of it; `stream` is where, if it was printed there.

    What is worse than a notice has a `code`.
    """

    time: float  # seconds since 1970
    level: Level
    text: str
    pid: int
    pool: str | None = None
    detail: str = ""
    speaker: str = ""  # "child 912": what stands before each line of a text that a pool's process wants logged
    stream: str = ""
    code: Code | None = None


class Manner(NamedTuple):
    """How much is told, and how: the same for the daemon's log and for those of its pools."""

    level: Level = Level.NOTICE
    limit: int = 1024  # bytes of a line
    is_json: bool = False
    ident: str = "pyfpm"  # to syslog
    facility: int = DAEMON
