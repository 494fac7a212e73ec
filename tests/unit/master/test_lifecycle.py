"""What may follow what, and how hard it is pushed: the tables are total and only ever get harsher."""

from __future__ import annotations

import itertools
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.master.lifecycle import LAST_SECOND, NEXT, Phase, Wish, is_harsher, pressure

ORDER = [Phase.STARTING, Phase.RUNNING, Phase.FINISHING, Phase.TERMINATING]
FIRMNESS = [None, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL]


def test_the_table_is_total_and_there_is_no_way_back() -> None:
    assert set(NEXT) == set(itertools.product(Phase, Wish))
    for (phase, _), after in NEXT.items():
        assert ORDER.index(after) >= ORDER.index(phase)


def test_terminate_always_terminates() -> None:
    assert {NEXT[phase, Wish.TERMINATE] for phase in Phase} == {Phase.TERMINATING}


@pytest.mark.parametrize(
    ("phase", "elapsed", "number"),
    [
        (Phase.STARTING, 100, None),
        (Phase.RUNNING, 100, None),
        (Phase.FINISHING, 0, signal.SIGQUIT),
        (Phase.FINISHING, 29.9, signal.SIGQUIT),
        (Phase.FINISHING, 30, signal.SIGTERM),
        (Phase.FINISHING, 30 + LAST_SECOND, signal.SIGKILL),
        (Phase.TERMINATING, 0, signal.SIGTERM),
        (Phase.TERMINATING, 29.9, signal.SIGTERM),
        (Phase.TERMINATING, 30, signal.SIGKILL),
    ],
)
def test_pressure(phase: Phase, elapsed: float, number: signal.Signals | None) -> None:
    assert pressure(phase, elapsed, 30.0) is number


@given(st.sampled_from(Phase), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e5))
def test_pressure_only_grows_and_ends_in_kill(phase: Phase, first: float, more: float, grace: float) -> None:
    one, two = pressure(phase, first, grace), pressure(phase, first + more, grace)
    assert FIRMNESS.index(two) >= FIRMNESS.index(one)
    if phase in (Phase.FINISHING, Phase.TERMINATING):
        assert one is not None
        assert pressure(phase, grace + LAST_SECOND + 0.1, grace) is signal.SIGKILL


def test_harsher() -> None:
    for one, other in itertools.product(FIRMNESS, FIRMNESS[1:]):
        assert other is not None
        assert is_harsher(one, other) is (FIRMNESS.index(one) > FIRMNESS.index(other))
