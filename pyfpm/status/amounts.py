"""Numbers for people: durations, sizes, counts and shares, each with its unit, and short.

Runs in: worker or monitor that answers a status request, Python 3.9 and up.   Pure: no system call, no clock, no log.
Fails by: nothing. What is unknown is a dash, never 0.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    Number = Optional[float]

UNKNOWN = "\N{EN DASH}"
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(seconds: Number) -> str:
    """Two units from a minute on ("3 min 12 s"), three digits below a second ("12 ms")."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for (large, name), (small, lesser) in zip(_UNITS, _UNITS[1:]):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {name}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"


def age(seconds: Number) -> str:
    """A duration for which whole seconds are enough."""
    return f"{int(seconds)} s" if seconds is not None and seconds < 60 else duration(seconds)


def size(amount: Number) -> str:
    """Bytes in the unit that leaves one to four digits."""
    if amount is None:
        return UNKNOWN
    for unit in _SIZES[:-1]:
        if amount < 999.5:
            return f"{amount:.{1 if amount < 9.95 and unit != 'B' else 0}f} {unit}"
        amount /= 1024
    return f"{amount:.1f} {_SIZES[-1]}"


def count(number: Number) -> str:
    """A whole number, its thousands apart."""
    return UNKNOWN if number is None else f"{int(number):,}"


def rate(number: Number) -> str:
    """A number a second; one digit behind the point where that says something."""
    if number is None:
        return UNKNOWN
    return f"{number:.1f}" if 0 < number < 9.95 else count(round(number))


def share(part: Number) -> str:
    """A share of one, in per cent."""
    return UNKNOWN if part is None else f"{part * 100:.0f} %"


def many(number: int, one: str, more: str) -> str:
    """ "1 worker", "2 workers"."""
    return f"{count(number)} {one if number == 1 else more}"
