"""Seconds since 1970 to the local time as text, made once a second.

Runs in: every process, Python 3.9 and up.   Not pure: the C library looks up the time zone; the clock is the caller's.
Fails by: nothing to fail at; a conversion that strftime does not know is printed as it stands.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False  # typing itself would cost every worker memory
if TYPE_CHECKING:
    from collections.abc import Callable

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def stamp(pattern: str) -> Callable[[float], str]:
    """Compile a strftime pattern to a function of seconds, which renders each second only once."""
    # An application may call setlocale(); log readers still want "Nov", not "nov.". ("%%b" is no %b.)
    parts = [part.replace("%h", "%b").split("%b") for part in pattern.split("%%")]
    last = -1
    text = ""

    def show(seconds: float) -> str:
        nonlocal last, text
        second = int(seconds)
        if second != last:
            local = time.localtime(second)
            month = MONTHS[local.tm_mon - 1]
            text = time.strftime("%%".join([month.join(part) for part in parts]), local)
            last = second
        return text

    return show


def iso_stamp() -> Callable[[float], str]:
    """A function of seconds: ISO 8601 with milliseconds and the offset of the time zone, for JSON."""
    show = stamp("%Y-%m-%dT%H:%M:%S%z")

    def show_iso(seconds: float) -> str:
        text = show(seconds)
        return f"{text[:19]}.{int(seconds % 1 * 1000):03d}{text[19:22]}:{text[22:]}"

    return show_iso
