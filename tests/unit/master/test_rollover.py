"""A generation takes over from another, with both of them played: which step follows which report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pyfpm import catalogue
from pyfpm.master.reason import Reason
from pyfpm.master.rollover import LAST_WORDS, Rollover
from pyfpm.master.sizing import Census

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyfpm.config.directives import PoolSettings
    from pyfpm.master.generation import Generation
    from pyfpm.master.resources import PoolResources


class Played:
    """A generation that has what it is told to have; workers are numbers."""

    def __init__(self, ready: int = 0) -> None:
        self.ready = ready
        self.starting = 0
        self.explanation: Reason | None = None
        self.proofs = 0
        self.lingering = False  # those that were dismissed have not gone yet
        self.left_at: list[float] = []

    @property
    def children(self) -> list[int]:
        return list(range(self.ready + self.starting))

    @property
    def is_serving(self) -> bool:
        return self.ready > 0

    def census(self, waiting: int = 0) -> Census:
        return Census(idle=self.ready, starting=self.starting, waiting=waiting)

    def want(self, more: int, _now: float, *, must_prove_itself: bool = False) -> None:
        self.starting += more
        self.proofs += more * must_prove_itself

    def come_up(self) -> None:
        self.ready, self.starting = self.ready + self.starting, 0

    def staying(self) -> list[int]:
        return list(range(self.ready))

    def outlived(self) -> list[int]:
        return []

    def idle(self) -> list[tuple[float, int]]:
        return [(0.0, child) for child in self.staying()]

    def may_accept(self) -> bool:
        return self.ready > 0 or self.lingering

    def about_to_go(self) -> list[float]:
        return self.left_at if self.lingering else []

    def dismiss(self, children: Iterable[int], now: float) -> None:
        dismissed = list(children)
        self.ready -= len(dismissed)
        self.left_at += [now] * len(dismissed)


def rollover(candidate: Played, most: int = 4, since: float = 100.0) -> Rollover:
    settings = SimpleNamespace(pm_max_children=most, reload_surge=1, reload_timeout=60.0)
    return Rollover(
        cast("Generation", candidate),
        cast("PoolResources", None),
        cast("PoolSettings", settings),
        since,
        lambda _reason: None,
    )


def step(one: Rollover, old: Played, now: float = 101.0, waiting: int = 0) -> Reason | bool:
    return one.step(cast("Any", old), now, waiting)


def test_nobody_leaves_before_the_first_is_ready() -> None:
    old, new = Played(4), Played()
    one = rollover(new)
    for _ in range(5):
        assert step(one, old) is False
    assert (old.ready, new.starting, new.proofs) == (4, 1, 1), "one, and it has to prove itself"
    assert not one.is_proven


@pytest.mark.parametrize("most", [1, 2, 4, 20])
def test_it_ends_with_as_many_as_there_were(most: int) -> None:
    old, new = Played(most), Played()
    one = rollover(new, most)
    for _ in range(most * 2 + 2):
        outcome = step(one, old)
        assert old.ready + new.ready + new.starting <= most + 1
        assert old.ready + new.ready >= most
        if outcome is True:
            break
        new.come_up()
    assert outcome is True
    assert (old.ready, new.ready) == (0, most)
    assert new.proofs == 1


def test_it_is_not_over_while_an_old_worker_could_answer() -> None:
    old, new = Played(1), Played()
    one = rollover(new, 1)
    old.lingering = True
    for _ in range(6):
        assert step(one, old) is False
        new.come_up()
    old.lingering = False
    assert step(one, old) is True


def test_those_that_do_not_go_hold_it_up_once_and_not_one_by_one() -> None:
    old, new = Played(4), Played()
    one = rollover(new)
    old.lingering = True
    now = 100.0
    while step(one, old, now) is False:
        assert old.ready + len(old.left_at) + new.ready + new.starting <= 5 or now > 100.0 + LAST_WORDS
        new.come_up()
        now += 0.1
        assert now < 102.0 + LAST_WORDS
    assert now > 100.0 + LAST_WORDS
    assert new.ready == 4


def test_an_empty_pool_gets_one() -> None:
    old, new = Played(0), Played()
    one = rollover(new)
    step(one, old)
    new.come_up()
    assert step(one, old) is True
    assert new.ready == 1


def test_the_load_may_grow_meanwhile() -> None:
    old, new = Played(1), Played()
    one = rollover(new)
    step(one, old)
    new.come_up()
    new.want(0, 0.0)
    outcome = step(one, old, waiting=9)
    while outcome is False:
        new.come_up()
        outcome = step(one, old)
    assert new.ready == 4, "up to the maximum"


def test_trouble_refuses_at_any_time() -> None:
    old, new = Played(4), Played()
    one = rollover(new)
    step(one, old)
    new.come_up()
    assert step(one, old) is False
    new.explanation = Reason(catalogue.WORKER_DIED_YOUNG, "it crashed\nTraceback")
    assert step(one, old) is new.explanation


def test_what_is_not_ready_in_time_is_refused() -> None:
    old, new = Played(2), Played()
    one = rollover(new)
    assert step(one, old, 160.0) is False
    assert step(one, old, 160.1) == Reason(catalogue.RELOAD_TOO_SLOW, "no worker was ready within 60 seconds")
    assert old.ready == 2


def test_the_time_is_for_the_proof_and_not_for_the_hand_over() -> None:
    old, new = Played(2), Played()
    one = rollover(new)
    step(one, old)
    new.come_up()
    assert step(one, old, 159.0) is False
    assert step(one, old, 500.0) is False
