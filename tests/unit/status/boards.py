"""Scoreboards as workers and master would have written them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pyfpm.scoreboard import (
    BORN,
    CPU,
    DURATION,
    GENERATION,
    LENGTH,
    MEMORY,
    NUMBER,
    PID,
    SERVED,
    SINCE,
    Scoreboard,
    Slot,
)
from pyfpm.status.snapshot import Snapshot, take

if TYPE_CHECKING:
    from collections.abc import Iterator

WALL = 1_795_308_100.0
NOW = 500 * 10**9
FACTS = {
    "start_time": 1_795_308_013,
    "started": NOW - 87 * 10**9,
    "generation": 2,
    "accepted_elsewhere": 1000,
    "idle_elsewhere": 0,
    "active_elsewhere": 1,
    "queue": 3,
    "queue_max": 9,
    "queue_limit": 4096,
    "max_active": 2,
    "max_children_reached": 1,
    "slow": 4,
    "timed_out": 8,
    "shed_elsewhere": 9,
    "recycled": 5,
    "crashed": 6,
    "killed": 7,
    "memory_peak": 1 << 20,
    "busy_1": 250_000,
    "busy_5": 500_000,
    "busy_15": 1_000_000,
    "manager": 1,
    "template": 2,
    "max_children": 8,
    "max_requests": 500,
    "max_memory": 0,
    "max_lifetime": 86_400_000,
    "quiet": -1,
    "reload_time": 1_795_308_090,
}


@contextlib.contextmanager
def board(slots: int = 4, facts: dict[str, int] | None = None, note: str = "ok") -> Iterator[Scoreboard]:
    """A scoreboard with these facts, and nobody on it."""
    made = Scoreboard.create("test", slots)
    try:
        if facts is not None:
            made.facts.write(facts, note)
        yield made
    finally:
        made.close()


def seat(
    scoreboard: Scoreboard, own: int, stage: int, uri: str = "/a?b=1", user: str = "", method: str = "GET"
) -> None:
    """A worker in slot `own` that has served nine requests and is in its tenth, or idle after it."""
    slot = Slot(scoreboard, own)
    values = {
        PID: 100 + own,
        GENERATION: 2,
        NUMBER: 10,
        SERVED: 9,
        SINCE: NOW - 2 * 10**9,
        BORN: NOW - 60 * 10**9,
        DURATION: 10_000_000,
        LENGTH: 12,
        CPU: 2_500,
        MEMORY: 20 << 20,
    }
    for name, value in values.items():
        slot.numbers[name] = value
    slot.show_request(method, uri, user)
    slot.stages[own] = stage
    scoreboard.weigh(own, (40 + 10 * own) << 20)


def snapshot_of(scoreboard: Scoreboard) -> Snapshot:
    return take(scoreboard, "www", "site.wsgi:application", WALL, NOW)
