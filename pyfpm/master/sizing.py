"""How many workers a pool should have: counts in, orders out.

Runs in: master, as root.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at; config/rules.py has already refused bad settings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Census:
    """The workers of a pool now, those ordered and not yet born included."""

    total: int


def wanted_by_static(now: Census, *, most: int) -> int:
    """How many workers to start: with `pm = static` whatever is missing, at once."""
    return max(0, most - now.total)
