"""The screen of `pyfpm top`: at every size, of every content."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfpm.cli.picture import Picture, Pool, Worker
from pyfpm.cli.screen import Line, Style, render
from pyfpm.cli.steering import Steering
from pyfpm.cli.units import width_of
from tests.unit.cli.examples import HOSTILE, a_picture, a_pool, a_worker

STUCK = Worker(a_worker(), cpu=1.0, resident=22 << 20, is_slow=True)
IDLE = Worker(a_worker(913, state="Idle"), cpu=0.0, resident=22 << 20)


def texts(lines: list[Line]) -> list[str]:
    return [line.text.rstrip() for line in lines]


def test_it_says_what_is_going_on() -> None:
    shop = Pool(a_pool("shop", busy=4, idle=0, queue=7, busy_5m=0.98), rate=3.0)
    picture = a_picture(STUCK, IDLE, pools=(Pool(a_pool(queue=0, busy_5m=0.5), rate=12.0), shop))
    lines = texts(render(picture, Steering(selected=913, index=1), 80, 14))
    assert lines[0].startswith("pyfpm ")
    assert "pid 800: 2 pools, 6 busy, 1 idle, 15.0 req/s" in lines[0]
    assert lines[0].endswith("every 2s")
    assert lines[1:4] == [
        "  POOL  STATE    BUSY  IDLE  MAX  5MIN   REQ/S  QUEUE  SLOW  TIMEOUT  SHED  NOTE",
        "! shop  serving     4     0    4   98%     3.0      7     0        ?     ?",
        "  www   serving     2     1    4   50%    12.0      0     0        ?     ?",
    ]
    assert lines[5:8] == [
        "      PID  POOL  STATE         FOR   CPU     MEM  REQUEST",
        "!     912  www   Running     12.3s  100%  <22.0M  GET /report?year=2026",
        ">     913  www   Idle            -    0%  <22.0M  (GET /report?year=2026)",
    ]


def test_no_style_is_the_only_sign() -> None:
    picture = a_picture(STUCK, Worker(a_worker(914, leaving=True), held="stopped"), IDLE, fault="no master runs")
    pools = (Pool(a_pool("shop", trouble="it does not import", idle=0, busy=0)),)
    for line in render(replace(picture, pools=pools), Steering(selected=913), 80, 24):
        if line.style in (Style.TROUBLE, Style.SLOW):
            assert line.text.startswith("!")
        if line.style is Style.SELECTED:
            assert line.text.startswith(">")
    shown = "\n".join(texts(render(picture, Steering(), 80, 24)))
    assert "! no master runs" in shown
    assert "Running, stopped, leaving" in shown


def test_the_selected_worker_is_always_in_sight() -> None:
    workers = [Worker(a_worker(pid, elapsed=1000.0 - pid)) for pid in range(100, 300)]
    for index in (0, 1, 50, 198, 199):
        lines = texts(render(a_picture(*workers), Steering(selected=100 + index, index=index), 80, 24))
        assert sum(line.startswith(">") for line in lines) == 1
        assert len([line for line in lines if " /report" in line]) == 24 - 6, "and the room is used"


def test_many_pools_leave_room_for_the_workers() -> None:
    pools = tuple(Pool(a_pool(f"site{number:03d}", busy=0)) for number in range(100))
    bad = Pool(a_pool("zebra", trouble="it does not import", busy=0))
    lines = texts(render(a_picture(STUCK, pools=(*pools, bad)), Steering(), 80, 24))
    assert lines[2].startswith("! zebra"), "trouble comes first"
    assert "  and 95 pools more; tab shows one after the other" in lines
    assert any("/report" in line for line in lines)


def test_stacks_scroll() -> None:
    steering = Steering(stacks=tuple(f"call {number}" for number in range(50)), scroll=10)
    lines = texts(render(a_picture(STUCK), steering, 80, 24))
    assert lines[1:23] == [f"call {number}" for number in range(10, 32)]


STEERINGS = [
    Steering(), Steering(has_help=True), Steering(text=HOSTILE), Steering(is_typing=True, text="x" * 100),
    Steering(stacks=(HOSTILE,) * 9), Steering(pool=HOSTILE), Steering(paused=True, order="cpu", selected=912),
]  # fmt: skip


@settings(max_examples=200)
@given(
    st.sampled_from(STEERINGS),
    st.text() | st.just(HOSTILE) | st.just("日本" * 100) | st.just("a" * 5000),
    st.integers(1, 250),
    st.integers(1, 60),
)
def test_every_line_fits_and_none_commands_the_terminal(steering: Steering, text: str, width: int, height: int) -> None:
    pool = Pool(a_pool(text, trouble=text, state=text))
    worker = Worker(a_worker(pool=text, uri=text, method=text, state=text), held=text, is_slow=True)
    lines = render(a_picture(worker, STUCK, pools=(pool,), fault=text), steering, width, height)
    assert len(lines) == height
    for line in lines:
        assert width_of(line.text) <= width
        assert line.text.isprintable()


@pytest.mark.parametrize("steering", STEERINGS)
def test_there_may_be_nothing_to_show(steering: Steering) -> None:
    assert len(render(Picture(), steering, 80, 24)) == 24


def test_the_help_fits_a_small_terminal() -> None:
    for line in texts(render(a_picture(), Steering(has_help=True), 80, 24)):
        assert not line.endswith("~")
