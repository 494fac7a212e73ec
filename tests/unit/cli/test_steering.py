"""The keys of `pyfpm top`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.cli.picture import Pool, Worker
from pyfpm.cli.steering import INTERVALS, ORDERS, Steering, Wish, chosen, hold_selection, press
from tests.unit.cli.examples import a_picture, a_pool, a_worker

SLOW = Worker(a_worker(1, elapsed=50.0), cpu=0.0, resident=10)
HOT = Worker(a_worker(2, "shop", elapsed=5.0, requests=100, uri="/Basket"), cpu=1.0, resident=20)
FAT = Worker(a_worker(3, state="Idle", elapsed=900.0), cpu=0.5, resident=5000)
PICTURE = a_picture(FAT, HOT, SLOW, pools=(Pool(a_pool()), Pool(a_pool("shop"))))
KEYS = [
    "up", "down", "left", "page up", "page down", "home", "end", "enter", "escape", "tab", "backspace", "resize",
    *"qjkshp/<>+-r ?x",
]  # fmt: skip


def after(keys: str | list[str], steering: Steering | None = None) -> Steering:
    steering = hold_selection(steering or Steering(), chosen(PICTURE, steering or Steering()))
    for key in keys:
        steering, _ = press(steering, key, PICTURE)
        steering = hold_selection(steering, chosen(PICTURE, steering))
    return steering


def pids(steering: Steering) -> list[int]:
    return [one.report.pid for one in chosen(PICTURE, steering)]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("time", [1, 2, 3]), ("cpu", [2, 3, 1]), ("memory", [3, 2, 1]), ("requests", [2, 1, 3]), ("pool", [2, 1, 3]),
        ("pid", [1, 2, 3]),
    ],
)  # fmt: skip
def test_orders(order: str, expected: list[int]) -> None:
    assert pids(Steering(order=order)) == expected


def test_the_orders_go_round() -> None:
    assert after(">").order == "cpu"
    assert after("<").order == after(">" * (len(ORDERS) - 1)).order == "pid"
    assert after(">" * len(ORDERS)).order == "time"


def test_the_selection_moves_and_stops_at_the_ends() -> None:
    assert after("").selected == 1
    assert after("j").selected == after(["down"]).selected == 2
    assert after("jjjjj").selected == after(["end"]).selected == after(["page down"]).selected == 3
    assert after("jjkkkk").selected == after(["end", "home"]).selected == 1


def test_the_selection_stays_with_its_worker() -> None:
    steering = after("j>")
    assert (steering.selected, steering.index) == (2, 0)


def test_the_selection_stays_in_its_place_when_the_worker_has_gone() -> None:
    steering = after("j")
    assert hold_selection(steering, [SLOW, FAT]).selected == 3
    assert hold_selection(steering, [SLOW]).selected == 1
    assert hold_selection(steering, []).selected is None


def test_filters() -> None:
    assert pids(after("/bask")) == [2], "of any case, and at once"
    assert pids(after([*"/idle", "enter"])) == [3]
    assert pids(after([*"/idle", "enter", "escape"])) == [1, 2, 3]
    assert pids(after([*"/idle", "escape"])) == [1, 2, 3]
    assert after([*"/idx", "backspace", *"le", "enter", "q"]).text == "idle"
    assert after("/qjs?").text == "qjs?", "letters are letters there"


def test_pools() -> None:
    assert pids(after("jp")) == [2]
    assert pids(after("jpp")) == [1, 2, 3]
    assert [after(["tab"] * count).pool for count in range(4)] == ["", "www", "shop", ""]


def test_intervals() -> None:
    assert after("+").interval == 5.0
    assert after("-").interval == 1.0
    assert after("+" * 20).interval == INTERVALS[-1]
    assert after("-" * 20).interval == INTERVALS[0]
    assert after("+", Steering(interval=3.0)).interval == 5.0
    assert after("-", Steering(interval=3.0)).interval == 2.0


def test_what_is_wished() -> None:
    wishes = {key: press(Steering(), key, PICTURE)[1] for key in KEYS}
    assert {key: wish for key, wish in wishes.items() if wish is not Wish.NOTHING} == {
        "q": Wish.LEAVE, "s": Wish.STACKS, "enter": Wish.STACKS, "r": Wish.LOOK,
    }  # fmt: skip


def test_stacks_are_read_and_left() -> None:
    reading = Steering(stacks=("a", "b", "c"))
    assert after("jjjjj", reading).scroll == 2
    assert after("jkkk", reading).scroll == 0
    assert press(reading, "s", PICTURE)[1] is Wish.STACKS
    for key in ("q", "escape", "enter"):
        steering, wish = press(reading, key, PICTURE)
        assert (steering.stacks, wish) == ((), Wish.NOTHING)


def test_help_goes_with_any_key() -> None:
    assert after("?").has_help
    assert not after("?q").has_help


def test_pause() -> None:
    assert after(" ").paused
    assert not after("  ").paused


@given(st.lists(st.sampled_from(KEYS) | st.characters()))
def test_no_keys_break_it(keys: list[str]) -> None:
    steering = after(keys)
    assert steering.interval in INTERVALS
    assert steering.selected in (None, 1, 2, 3)


def test_nothing_there_is_nothing_to_steer() -> None:
    steering = Steering()
    for key in KEYS:
        steering, _ = press(steering, key, a_picture(pools=()))
    assert steering.selected is None
