"""How many workers a pool should have: counts in, orders out.

Runs in: master, as root.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at; config/rules.py has already refused bad settings.
"""

from __future__ import annotations

from typing import NamedTuple


class Census(NamedTuple):
    """The workers of a generation that are to stay, and the connections that nobody has accepted yet.

    `starting` are ordered or not yet ready; they will be idle in a moment. `waiting` is the listen queue.
    """

    idle: int = 0
    busy: int = 0
    starting: int = 0
    waiting: int = 0

    @property
    def total(self) -> int:
        return self.idle + self.busy + self.starting


class Plan(NamedTuple):
    """What the settings say about the size of a pool. `start` and the spare counts are for `dynamic` only."""

    manager: str
    most: int
    start: int = 0
    least_idle: int = 0
    most_idle: int = 0
    most_at_once: int = 32

    @property
    def alarm_below(self) -> int:
        """A worker that leaves fewer idle ones than this should wake the master; 0 where the number is fixed."""
        return {"static": 0, "dynamic": max(1, self.least_idle), "ondemand": 1}[self.manager]


class Orders(NamedTuple):
    """What to do now. At most one of `start` and `retire` is above zero; idle workers are what is retired.

    `short` is how many more would be needed and may not be started.
    """

    start: int = 0
    retire: int = 0
    short: int = 0


def orders_for(plan: Plan, now: Census, *, fresh: bool = False, idle_too_long: int = 0) -> Orders:
    """The orders for a generation. `fresh`: it has never been at its starting size.

    `idle_too_long` is how many have been idle for longer than pm.process_idle_timeout.
    """
    room = max(0, plan.most - now.total)
    if plan.manager == "static":
        return Orders(start=room, retire=min(now.idle, max(0, now.total - plan.most)))
    if plan.manager == "ondemand":
        return _orders_for_ondemand(now, room, idle_too_long)
    return _orders_for_dynamic(plan, now, room, fresh)


def _orders_for_dynamic(plan: Plan, now: Census, room: int, fresh: bool) -> Orders:
    # What waits is not what is spare: the need is met at once, by as many as it takes, and not by one a second.
    need = plan.least_idle + now.waiting - now.idle - now.starting
    if fresh:
        need = max(need, plan.start - now.total)
    if need > 0:
        start = min(need, room, plan.most_at_once)
        return Orders(start=start, short=max(0, need - room) if start == room else 0)
    surplus = now.idle - plan.most_idle
    if surplus > 0 and not now.starting and not fresh:
        return Orders(retire=surplus)
    return Orders()


def _orders_for_ondemand(now: Census, room: int, idle_too_long: int) -> Orders:
    need = now.waiting - now.idle - now.starting
    if need > 0:
        return Orders(start=min(need, room), short=max(0, need - room))
    if now.waiting:
        return Orders()
    return Orders(retire=idle_too_long)


class HandOver(NamedTuple):
    """One step from an old generation to a new one: how many to start of the new, how many to retire of the old."""

    start: int
    retire: int


def hand_over(
    *, old: int, leaving: int, new_ready: int, new_starting: int, target: int, most: int, surge: int
) -> HandOver:
    """Old workers leave as new ones take over, one for one; never more than `most` + `surge` at a time.

    `old` are those not yet asked to leave; `leaving` were, and have no request to finish. `target` is how many there
    were when the new generation proved itself, so that the load finds as many as before.
    """
    new = new_ready + new_starting
    room = most + surge - old - leaving - new
    start = max(0, min(target - new, room))
    retire = max(0, old - max(0, target - new_ready))
    return HandOver(start, retire)
