"""Durations, memory and text as people read them in a narrow column.

Runs in: an operator's shell.   Pure: no system call, no clock, no log.
Fails by: nothing; what is unknown is "?", and never 0.
"""

from __future__ import annotations

import unicodedata

UNKNOWN = "?"
_CUT = "~"  # where a text goes on
_STEPS = (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1))


def show_seconds(seconds: float | None) -> str:
    """At most seven characters, exact enough for its size: 0.3s, 12.5s, 12m05s, 3h25m, 4d03h."""
    if seconds is None:
        return UNKNOWN
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    large, size, small, part = next(step for step in _STEPS if whole >= step[1] or step is _STEPS[-1])
    return f"{whole // size}{large}{whole % size // part:02d}{small}"


def show_bytes(amount: int | None) -> str:
    """In units of 1024: 512B, 9.4K, 21.3M, 1.2G."""
    if amount is None:
        return UNKNOWN
    value = float(amount)
    units = iter("BKMGTPE")
    unit = next(units)
    while value >= 999.5 and (larger := next(units, "")):
        value, unit = value / 1024, larger
    return f"{value:.0f}{unit}" if unit == "B" or value >= 99.95 else f"{value:.1f}{unit}"


def show_share(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share * 100:.0f}%"


def show_count(count: int | None) -> str:
    return UNKNOWN if count is None else str(count)


def width_of(text: str) -> int:
    """How many cells of a terminal a text takes that `printable` has passed."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def fit(text: str, width: int) -> str:
    """`text` in `width` cells at most. Marks that have no cell of their own, and could pile up, are left out."""
    if text.isascii():
        return text if len(text) <= width else text[: max(0, width - 1)] + _CUT * (width > 0)
    kept: list[str] = []
    used = 0
    for character in text:
        cells = _cells(character)
        if used + cells > width:
            while kept and used > width - 1:
                used -= _cells(kept.pop())
            return "".join(kept) + _CUT * (width > 0)
        if cells:
            kept.append(character)
            used += cells
    return "".join(kept)


def _cells(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
