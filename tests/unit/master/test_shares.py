"""The moving averages, by table."""

from __future__ import annotations

import pytest

from pyfpm.master.shares import Shares, averaged


def run(steps: list[tuple[float, float]], step: float = 1.0) -> Shares:
    """The averages after each (share, seconds), looked at every `step` seconds."""
    shares: Shares = (0.0, 0.0, 0.0)
    age = 0.0
    for share, seconds in steps:
        for _ in range(int(seconds / step)):
            age += step
            shares = averaged(shares, share, step, age)
    return shares


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(0.0, 10)], (0.0, 0.0, 0.0)),
        ([(1.0, 1)], (1.0, 1.0, 1.0)),  # a pool that never was idle
        ([(0.5, 5000)], (0.5, 0.5, 0.5)),
        ([(1.0, 10), (0.0, 10)], (0.5, 0.5, 0.5)),  # the plain mean of the first moments
        ([(0.0, 9000), (1.0, 60)], (0.632, 0.181, 0.064)),  # 1 - exp(-t / window), as the load average
        ([(0.0, 9000), (1.0, 900)], (1.0, 0.950, 0.632)),
    ],
)
def test_averages(steps: list[tuple[float, float]], expected: Shares) -> None:
    assert run(steps) == pytest.approx(expected, abs=0.01)


def test_how_often_one_looks_makes_no_difference() -> None:
    steps = [(0.0, 9000.0), (1.0, 120.0)]
    assert run(steps, 0.5) == pytest.approx(run(steps, 4.0), abs=0.01)


@pytest.mark.parametrize(("share", "expected"), [(-1.0, 0.0), (7.0, 1.0)])
def test_a_share_is_between_none_and_all(share: float, expected: float) -> None:
    assert averaged((0.0, 0.0, 0.0), share, 1.0, 1.0) == (expected,) * 3


def test_no_time_no_change() -> None:
    assert averaged((0.1, 0.2, 0.3), 1.0, 0.0, 100.0) == (0.1, 0.2, 0.3)
