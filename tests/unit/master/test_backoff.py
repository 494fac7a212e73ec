"""When to try again, and when crashes are an emergency."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.master.backoff import LONGEST_PAUSE, YOUNG, Streak, died_young, is_emergency


def test_the_pauses() -> None:
    streak, now, pauses = Streak(), 100.0, []
    for _ in range(12):
        streak = streak.after_failure(now)
        pauses.append(round(streak.not_before - now, 6))
        now = streak.not_before
    assert pauses == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


@given(st.integers(1, 2000), st.floats(0, 1e9))
def test_a_pause_is_never_longer_than_the_longest(failures: int, now: float) -> None:
    streak = Streak(failures).after_failure(now)
    assert now <= streak.not_before <= now + LONGEST_PAUSE
    assert streak.allows(streak.not_before)
    assert streak.failures == failures + 1


def test_many_that_were_started_together_fail_as_one() -> None:
    streak = Streak()
    for number in range(40):
        streak = streak.after_failure(100 + number / 1000)
    assert (streak.failures, streak.last) == (2, 100.039)
    assert streak.allows(100.2)


def test_a_streak_that_has_not_begun_allows_all() -> None:
    assert Streak().allows(0.0)


@pytest.mark.parametrize(
    ("lived", "requests", "young"), [(0.1, 0, True), (0.1, 1, False), (YOUNG, 0, False), (YOUNG + 60, 9, False)]
)
def test_who_dies_young(lived: float, requests: int, young: bool) -> None:
    assert died_young(lived, requests) is young


@pytest.mark.parametrize(
    ("crashes", "threshold", "interval", "emergency"),
    [
        ([], 1, 10, False),
        ([5.0], 1, 10, True),
        ([1.0, 2.0], 3, 10, False),
        ([1.0, 2.0, 3.0], 3, 10, True),
        ([1.0, 2.0, 12.0], 3, 10, False),
        ([1.0, 2.0, 11.0], 3, 10, False),
        ([0.0, 2.0, 3.0, 4.0], 3, 10, True),
        ([1.0, 1.0, 1.0], 0, 10, False),
        ([1.0, 1.0, 1.0], 3, 0, False),
    ],
)
def test_an_emergency(crashes: list[float], threshold: int, interval: float, emergency: bool) -> None:
    assert is_emergency(crashes, threshold, interval) is emergency
