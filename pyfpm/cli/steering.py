"""What the person at `pyfpm top` wants to see, and what each key changes about it.

Runs in: an operator's shell.   Pure: no system call, no clock, no log.
Fails by: nothing; a key that means nothing changes nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfpm.cli.picture import Picture, Worker

INTERVALS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
LONGEST_FILTER = 100
PAGE = 10

# Whoever has worked longest comes first, then who has waited longest: the order of one who looks for trouble.
ORDERS: dict[str, Callable[[Worker], tuple[object, ...]]] = {
    "time": lambda one: (not one.report.is_busy, -one.report.elapsed if one.report.is_busy else 0.0, one.report.pid),
    "cpu": lambda one: (-(one.cpu or 0.0), one.report.pid),
    "memory": lambda one: (-(one.report.pss or one.resident or 0), one.report.pid),
    "requests": lambda one: (-one.report.requests, one.report.pid),
    "pool": lambda one: (one.report.pool, not one.report.is_busy, -one.report.elapsed, one.report.pid),
    "pid": lambda one: (one.report.pid,),
}
_NAMES = tuple(ORDERS)


class Wish(enum.Enum):
    """What is to be done beyond drawing it again."""

    NOTHING = "nothing"
    LOOK = "look again now"
    STACKS = "get the stacks of the worker selected"
    LEAVE = "leave"


@dataclass(frozen=True)
class Steering:
    """`selected` is a pid; `index` where its row was, for when it has gone. `stacks` are the lines in its place."""

    interval: float = 2.0
    paused: bool = False
    order: str = _NAMES[0]
    pool: str = ""
    text: str = ""
    is_typing: bool = False
    has_help: bool = False
    selected: int | None = None
    index: int = 0
    stacks: tuple[str, ...] = ()
    scroll: int = 0


def chosen(picture: Picture, steering: Steering) -> list[Worker]:
    """The workers to be shown, in their order."""
    sought = steering.text.casefold()
    found = [
        one
        for one in picture.workers
        if (not steering.pool or one.report.pool == steering.pool) and (not sought or sought in _described(one))
    ]
    return sorted(found, key=ORDERS[steering.order])


def _described(one: Worker) -> str:
    return f"{one.report.pid} {one.report.pool} {one.state} {one.report.request}".casefold()


def hold_selection(steering: Steering, workers: list[Worker]) -> Steering:
    """The selection stays with its worker; when that has gone, with the place."""
    pids = [one.report.pid for one in workers]
    if not pids:
        return replace(steering, selected=None, index=0)
    if steering.selected in pids:
        return replace(steering, index=pids.index(steering.selected))
    index = min(steering.index, len(pids) - 1)
    return replace(steering, selected=pids[index], index=index)


def press(steering: Steering, key: str, picture: Picture) -> tuple[Steering, Wish]:
    """What a key does: a character, or the name of a key in words."""
    if steering.is_typing:
        return _type(steering, key), Wish.NOTHING
    if steering.has_help:
        return replace(steering, has_help=False), Wish.NOTHING
    if steering.stacks:
        return _read(steering, key)
    if key in _MOVES:
        return _move(steering, _MOVES[key], chosen(picture, steering)), Wish.NOTHING
    if key in _WISHES:
        return steering, _WISHES[key]
    change = _CHANGES.get(key)
    return (change(steering, picture) if change else steering), Wish.NOTHING


def _type(steering: Steering, key: str) -> Steering:
    if key == "enter":
        return replace(steering, is_typing=False)
    if key == "escape":
        return replace(steering, is_typing=False, text="")
    if key == "backspace":
        return replace(steering, text=steering.text[:-1])
    if len(key) == 1 and key.isprintable() and len(steering.text) < LONGEST_FILTER:
        return replace(steering, text=steering.text + key)
    return steering


def _read(steering: Steering, key: str) -> tuple[Steering, Wish]:
    """While stacks are shown."""
    if key in ("q", "escape", "enter", "backspace", "left"):
        return replace(steering, stacks=(), scroll=0), Wish.NOTHING
    if key == "s":
        return steering, Wish.STACKS
    scroll = steering.scroll + _MOVES.get(key, 0)
    return replace(steering, scroll=min(max(0, scroll), len(steering.stacks) - 1)), Wish.NOTHING


def _move(steering: Steering, by: int, workers: list[Worker]) -> Steering:
    index = min(max(0, steering.index + by), max(0, len(workers) - 1))
    return replace(steering, index=index, selected=workers[index].report.pid if workers else None)


def _toggle_pool(steering: Steering, picture: Picture) -> Steering:
    if steering.pool:
        return replace(steering, pool="")
    own = [one.report.pool for one in picture.workers if one.report.pid == steering.selected]
    return replace(steering, pool=own[0]) if own else steering


def _next_pool(steering: Steering, picture: Picture) -> Steering:
    names = ["", *(pool.report.pool for pool in picture.pools)]
    place = names.index(steering.pool) if steering.pool in names else 0
    return replace(steering, pool=names[(place + 1) % len(names)])


def _reorder(steering: Steering, by: int) -> Steering:
    return replace(steering, order=_NAMES[(_NAMES.index(steering.order) + by) % len(_NAMES)])


def _hasten(steering: Steering, by: int) -> Steering:
    """The next interval of the list that is longer, or shorter."""
    further = [one for one in INTERVALS[::by] if (one - steering.interval) * by > 0]
    return replace(steering, interval=further[0]) if further else steering


_MOVES = {
    "up": -1, "k": -1, "down": 1, "j": 1, "page up": -PAGE, "page down": PAGE, "home": -1_000_000, "end": 1_000_000,
}  # fmt: skip
_WISHES = {"q": Wish.LEAVE, "s": Wish.STACKS, "enter": Wish.STACKS, "r": Wish.LOOK}
_CHANGES: dict[str, Callable[[Steering, Picture], Steering]] = {
    " ": lambda steering, _: replace(steering, paused=not steering.paused),
    "?": lambda steering, _: replace(steering, has_help=True),
    "h": lambda steering, _: replace(steering, has_help=True),
    "/": lambda steering, _: replace(steering, is_typing=True),
    "escape": lambda steering, _: replace(steering, text="", pool=""),
    "p": _toggle_pool,
    "tab": _next_pool,
    "<": lambda steering, _: _reorder(steering, -1),
    ">": lambda steering, _: _reorder(steering, 1),
    "+": lambda steering, _: _hasten(steering, 1),
    "-": lambda steering, _: _hasten(steering, -1),
}
