"""How many workers: the orders by tables, the hand-over by every way that chance can find."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.master.sizing import Census, Orders, Plan, hand_over, orders_for

STATIC = Plan("static", 4)
DYNAMIC = Plan("dynamic", 10, start=3, least_idle=2, most_idle=4)
ONDEMAND = Plan("ondemand", 5)


@pytest.mark.parametrize(
    ("plan", "now", "orders"),
    [
        (STATIC, Census(), Orders(start=4)),
        (STATIC, Census(starting=4), Orders()),
        (STATIC, Census(idle=1, busy=2), Orders(start=1)),
        (STATIC, Census(idle=1, busy=3, waiting=50), Orders()),
        (STATIC, Census(idle=3, busy=3), Orders(retire=2)),
        (STATIC, Census(idle=1, busy=5), Orders(retire=1)),
        # dynamic: the spare, and all that waits, at once
        (DYNAMIC, Census(idle=2), Orders()),
        (DYNAMIC, Census(idle=1, busy=1), Orders(start=1)),
        (DYNAMIC, Census(idle=1, busy=1, starting=1), Orders()),
        (DYNAMIC, Census(busy=3, waiting=4), Orders(start=6)),
        (DYNAMIC, Census(busy=3, waiting=4, starting=6), Orders()),
        (DYNAMIC, Census(busy=8, waiting=4), Orders(start=2, short=4)),
        (DYNAMIC, Census(busy=10), Orders(short=2)),
        (DYNAMIC, Census(busy=9, idle=1), Orders(short=1)),
        (DYNAMIC, Census(idle=4, busy=2), Orders()),
        (DYNAMIC, Census(idle=9, busy=1), Orders(retire=5)),
        (DYNAMIC, Census(idle=9, starting=1), Orders()),
        # ondemand: only what waits
        (ONDEMAND, Census(), Orders()),
        (ONDEMAND, Census(waiting=3), Orders(start=3)),
        (ONDEMAND, Census(waiting=3, starting=2), Orders(start=1)),
        (ONDEMAND, Census(waiting=3, idle=3), Orders()),
        (ONDEMAND, Census(waiting=30), Orders(start=5, short=25)),
        (ONDEMAND, Census(busy=5, waiting=1), Orders(short=1)),
    ],
)
def test_orders(plan: Plan, now: Census, orders: Orders) -> None:
    assert orders_for(plan, now) == orders


def test_a_fresh_dynamic_pool_gets_its_start_servers() -> None:
    assert orders_for(DYNAMIC, Census(), fresh=True) == Orders(start=3)
    assert orders_for(DYNAMIC, Census(starting=2), fresh=True) == Orders(start=1)
    assert orders_for(DYNAMIC, Census(idle=3), fresh=True) == Orders()
    # A burst at the start is not limited to them.
    assert orders_for(DYNAMIC, Census(waiting=5), fresh=True) == Orders(start=7)


def test_the_spawn_rate_limits_what_is_started_at_once() -> None:
    plan = Plan("dynamic", 100, 5, 5, 10, most_at_once=8)
    assert orders_for(plan, Census(waiting=50)) == Orders(start=8)


def test_idle_workers_of_an_ondemand_pool_leave_in_time_and_not_while_somebody_waits() -> None:
    assert orders_for(ONDEMAND, Census(idle=3), idle_too_long=2) == Orders(retire=2)
    assert orders_for(ONDEMAND, Census(idle=3, waiting=1), idle_too_long=2) == Orders()


@pytest.mark.parametrize(
    ("plan", "below"), [(STATIC, 0), (ONDEMAND, 1), (DYNAMIC, 2), (Plan("dynamic", 3, 1, 0, 2), 1)]
)
def test_when_the_master_wants_to_be_woken(plan: Plan, below: int) -> None:
    assert plan.alarm_below == below


counts = st.integers(0, 40)
plans = st.builds(
    Plan,
    manager=st.sampled_from(["static", "dynamic", "ondemand"]),
    most=st.integers(1, 30),
    start=st.integers(0, 30),
    least_idle=st.integers(1, 10),
    most_idle=st.integers(10, 20),
    most_at_once=st.integers(1, 40),
)


@given(plans, st.builds(Census, counts, counts, counts, counts), st.booleans(), counts)
def test_orders_keep_to_what_is_there(plan: Plan, now: Census, fresh: bool, too_long: int) -> None:
    orders = orders_for(plan, now, fresh=fresh, idle_too_long=min(too_long, now.idle))
    assert orders.start == 0 or orders.retire == 0
    assert 0 <= orders.start <= max(0, plan.most - now.total)
    assert 0 <= orders.retire <= now.idle
    assert orders.short >= 0
    assert not (orders.short and now.total + orders.start < plan.most), "short of workers with room for more"


@given(plans, counts)
def test_a_pool_at_rest_stays_at_rest(plan: Plan, idle: int) -> None:
    """No order undoes the one before: a pool does not swing."""
    census = Census(idle=min(idle, plan.most))
    for _ in range(60):
        orders = orders_for(plan, census)
        if orders == Orders() or orders.short:
            return
        before = census.idle
        census = Census(idle=before + orders.start - orders.retire)
        follow = orders_for(plan, census)
        assert not (orders.start and follow.retire)
        assert not (orders.retire and follow.start)
    raise AssertionError("it never comes to rest")


@given(
    most=st.integers(1, 20),
    surge=st.integers(1, 5),
    old=st.integers(0, 20),
    target=st.integers(1, 20),
    chance=st.randoms(use_true_random=False),
)
def test_a_hand_over_ends_and_never_has_too_many(most: int, surge: int, old: int, target: int, chance: object) -> None:
    old, target = min(old, most), min(target, most)
    served = old
    ready, starting = 1, 0  # the one that has proved the new generation
    leaving = 0
    for _ in range(300):
        step = hand_over(
            old=old, leaving=leaving, new_ready=ready, new_starting=starting, target=target, most=most, surge=surge
        )
        assert step.start >= 0
        assert 0 <= step.retire <= old
        all_of_them = old + leaving + ready + starting
        assert all_of_them + step.start <= max(most + surge, all_of_them)
        assert ready + (old - step.retire) >= min(served, target), "the load finds as many as before"
        old -= step.retire
        leaving += step.retire
        leaving -= min(leaving, chance.randrange(3))  # type: ignore[attr-defined]
        starting += step.start
        if ready >= target and old == 0:
            assert ready + starting <= most
            return
        # Some of those that are starting come up, in an order that nobody knows; one at least, or nothing ever would.
        up = min(starting, 1 + chance.randrange(3))  # type: ignore[attr-defined]
        starting, ready = starting - up, ready + up
    raise AssertionError(f"it never ends: old {old}, ready {ready}, starting {starting}")


def test_a_hand_over_one_for_one() -> None:
    assert hand_over(old=4, leaving=0, new_ready=1, new_starting=0, target=4, most=4, surge=1).retire == 1
    assert hand_over(old=3, leaving=1, new_ready=1, new_starting=0, target=4, most=4, surge=1).start == 0
    assert hand_over(old=3, leaving=0, new_ready=1, new_starting=0, target=4, most=4, surge=1).start == 1
    assert hand_over(old=0, leaving=0, new_ready=1, new_starting=0, target=1, most=4, surge=1).retire == 0


@given(st.integers(1, 20), st.integers(1, 3))
def test_a_hand_over_recovers_when_the_first_worker_is_lost(most: int, surge: int) -> None:
    step = hand_over(old=most, leaving=0, new_ready=0, new_starting=0, target=most, most=most, surge=surge)
    assert step.start == min(most, surge)
    assert step.retire == 0
