"""Who is over time: given readings and a moment, nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.master.deadlines import is_late, silent_peers
from pyfpm.scoreboard import IDLE, READING, RUNNING, Reading


def reading(stage: int, since: float, number: int = 7) -> Reading:
    return Reading(stage, int(since * 1e9), number, 0, 1, 1, 0)


@pytest.mark.parametrize(
    ("since", "now", "late"), [(10.0, 15.0, False), (10.0, 15.1, True), (10.0, 10.0, False), (10.0, 9.0, False)]
)
def test_is_late(since: float, now: float, late: bool) -> None:
    assert is_late(since, now, 5.0) is late


def test_silent_peers_are_those_that_are_read_from_for_too_long() -> None:
    readings = [
        (0, reading(READING, 100, 11)),
        (1, reading(READING, 108, 12)),
        (2, reading(RUNNING, 1, 13)),
        (3, reading(IDLE, 1, 14)),
    ]
    assert silent_peers(readings, 106.0, 5.0) == [(0, 11)]


@given(st.integers(0, 255), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_whatever_a_slot_says(stage: int, since: int, number: int) -> None:
    found = silent_peers([(3, Reading(stage, since, number, 0, 0, 0, 0))], 1e6, 10.0)
    assert found in ([], [(3, number)])
