"""When a request came to the front server, by the time stamp that it put on it.

Runs in: worker, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: None for what is no time stamp; it is a number that somebody sent, and never worth an error.
"""

from __future__ import annotations

_DAY = 86400.0
_LONGEST = 40  # characters; a client may have sent it
# Front servers count in seconds (nginx's $msec), milliseconds (Heroku), microseconds (Apache's %t) or nanoseconds. The
# four are told apart by their size, as New Relic's agents do: of a moment within the last day only one can be meant.
_UNITS = (1.0, 1e3, 1e6, 1e9)


def came_at(stamp: str, now: float) -> float | None:
    """Seconds since 1970, from `1700000000.123` or `t=1700000000123`; None for garbage, the future, and past days."""
    if len(stamp) > _LONGEST:
        return None
    try:
        number = float(stamp[2:] if stamp[:2] == "t=" else stamp)
    except ValueError:
        return None
    for unit in _UNITS:
        if now - _DAY <= number / unit <= now:
            return number / unit
    return None
