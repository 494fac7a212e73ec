"""Who is over time: readings and a moment in, names out.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at; a reading is gossip, and the worst it can do is to have its own worker looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyfpm.scoreboard import READING, Reading


def silent_peers(readings: Iterable[tuple[int, Reading]], now: float, limit: float) -> list[tuple[int, int]]:
    """(slot, request number) of workers that have waited longer than `limit` seconds for the head of a request.

    A worker's first read is a plain blocking one: a time limit of its own would cost a system call a request. So the
    master, who sees since when it waits, tells it to give up.
    """
    return [
        (slot, reading.number)
        for slot, reading in readings
        if reading.stage == READING and now - reading.since / 1e9 > limit
    ]


def is_late(since: float, now: float, limit: float) -> bool:
    """Whether something begun at `since` has had its `limit` of seconds."""
    return now - since > limit
