"""The bell: heard at once, then not for a moment, however hard somebody rings."""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING

import pytest

from pyfpm.master.bell import PAUSE, Bell
from pyfpm.master.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator


class Tower:
    """A bell and the clock beside it. `wait` says whether the loop was woken."""

    def __init__(self) -> None:
        self.now = 100.0
        self.loop = Loop(lambda: self.now)
        self.bell = Bell(self.loop)

    def wait(self) -> bool:
        before = self.bell.next_due()
        self.loop.wait(0)
        return self.bell.next_due() != before


@pytest.fixture
def tower() -> Iterator[Tower]:
    made = Tower()
    yield made
    made.bell.close()
    made.loop.close()


def test_one_ring_is_heard_once(tower: Tower) -> None:
    assert not tower.wait()
    os.write(tower.bell.rope, b"!")
    assert tower.wait()
    assert tower.bell.next_due() == tower.now + PAUSE
    tower.now += PAUSE
    tower.bell.listen_again(tower.now)
    assert tower.bell.next_due() == math.inf
    assert not tower.wait()


def test_who_rings_without_end_is_heard_now_and_then(tower: Tower) -> None:
    heard = 0
    for _ in range(1000):
        with contextlib.suppress(BlockingIOError):
            os.write(tower.bell.rope, b"!" * 65536)
        heard += tower.wait()
        tower.now += PAUSE / 100
        tower.bell.listen_again(tower.now)
    assert 8 <= heard <= 10


def test_nobody_who_rings_has_to_wait(tower: Tower) -> None:
    with pytest.raises(BlockingIOError):  # noqa: PT012
        for _ in range(64):
            os.write(tower.bell.rope, b"!" * 65536)
