"""Who is over time, and which step a request is due for at every moment of its life: readings and a clock in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfpm.master.deadlines import LEAST_EXTENSION, Handled, RequestLimits, Step, is_late, next_step, silent_peers
from pyfpm.scoreboard import CREATING, ENDING, FINISHING, FREE, IDLE, RAISED, READING, RUNNING, Reading

SLOW_ONLY = RequestLimits(slow=2.0)
BOTH = RequestLimits(slow=2.0, terminate=5.0, grace=3.0)
EQUAL = RequestLimits(slow=5.0, terminate=5.0, grace=3.0)
NEW = Handled(1)
LOGGED = Handled(1, is_logged=True)
OVER = LOGGED.over(105.0, 0.1, 3.0)


def reading(stage: int = RUNNING, since: float = 100.0, deadline: float | None = 105.0, number: int = 1) -> Reading:
    made = Reading(stage, int(since * 1e9), number, 0, 7, 1, 0)
    made.deadline = RAISED if deadline is None else int(deadline * 1e9)
    return made


@pytest.mark.parametrize(
    ("now", "limits", "done", "step", "again"),
    [
        (101.0, SLOW_ONLY, NEW, Step.NOTHING, 102.0),
        (102.0, SLOW_ONLY, NEW, Step.LOG, 102.0),
        (102.5, SLOW_ONLY, LOGGED, Step.NOTHING, math.inf),
        (101.0, BOTH, NEW, Step.NOTHING, 102.0),
        (103.0, BOTH, LOGGED, Step.NOTHING, 105.0),
        (105.0, BOTH, LOGGED, Step.END, 105.0),
        (105.0, EQUAL, NEW, Step.LOG, 105.0),
        (105.05, BOTH, OVER, Step.NOTHING, 105.1),
        (105.1, BOTH, OVER, Step.TELL, 105.1),
        (105.15, BOTH, OVER.told(105.1), Step.NOTHING, 105.2),
        (108.1, BOTH, OVER, Step.KILL, 108.1),
    ],
)
def test_each_step_in_its_time(now: float, limits: RequestLimits, done: Handled, step: Step, again: float) -> None:
    found, when = next_step(reading(), done, limits, now)
    assert found is step
    assert when == pytest.approx(again)


def test_who_has_raised_is_not_told_again_but_killed_in_time() -> None:
    step, again = next_step(reading(deadline=None), OVER, BOTH, 107.0)
    assert step is Step.NOTHING
    assert again == pytest.approx(108.1)
    assert next_step(reading(deadline=None), OVER, BOTH, 108.2)[0] is Step.KILL


def test_an_extension_counts_until_the_exception() -> None:
    assert next_step(reading(deadline=200.0), LOGGED, BOTH, 150.0) == (Step.NOTHING, 200.0)
    assert next_step(reading(deadline=200.0), OVER, BOTH, 105.1)[0] is Step.FORGIVE
    assert next_step(reading(deadline=200.0), OVER, BOTH, 109.0)[0] is Step.KILL


def test_stacks_that_come_early_make_the_end_come_early() -> None:
    assert OVER.sooner(105.02, 3.0).tell_at == 105.02
    assert OVER.sooner(105.5, 3.0).tell_at == pytest.approx(105.1), "and never late"


def test_no_grace_is_the_end_at_once() -> None:
    done = LOGGED.over(105.0, 0.1, 0.0)
    assert next_step(reading(), done, RequestLimits(terminate=5.0), 105.1)[0] is Step.KILL


@pytest.mark.parametrize("stage", [FREE, CREATING, IDLE, READING, ENDING, FINISHING])
def test_only_the_application_is_limited(stage: int) -> None:
    assert next_step(reading(stage), NEW, BOTH, 1e6) == (Step.NOTHING, math.inf)


def test_what_is_finished_may_be_limited_but_is_not_slow() -> None:
    limits = RequestLimits(slow=2.0, terminate=5.0, grace=3.0, track_finished=True)
    assert next_step(reading(FINISHING), NEW, limits, 103.0) == (Step.NOTHING, 105.0)
    assert next_step(reading(FINISHING), NEW, limits, 105.0)[0] is Step.END


def test_nothing_is_limited_without_limits() -> None:
    assert RequestLimits().shortest == math.inf
    assert next_step(reading(), NEW, RequestLimits(), 1e6) == (Step.NOTHING, math.inf)


@given(st.integers(0, 255), *[st.integers(0, 2**64 - 1)] * 2, st.floats(0, 1e9))
def test_any_slot_has_a_step(stage: int, since: int, deadline: int, now: float) -> None:
    made = Reading(stage, since, 1, 0, 7, 1, 0)
    made.deadline = deadline
    step, again = next_step(made, NEW, BOTH, now)
    assert step in Step
    assert again >= now or step is not Step.NOTHING


def test_a_slot_with_a_new_old_request_at_every_look_is_slow_and_over_no_oftener_than_an_honest_one() -> None:
    limits = RequestLimits(slow=1.0, terminate=4.0, grace=3.0)
    logged, ended = [], []
    done = Handled()
    for look in range(1000):
        now = 100 + look / 50
        done = done.followed_by(look, limits)
        for _ in range(2):
            step, _ = next_step(reading(since=0.0, deadline=0.0, number=look), done, limits, now)
            if step is Step.LOG:
                logged.append(now)
                done = done.logged(now)
            elif step is Step.END:
                ended.append(now)
                done = done.over(now, 0.1, limits.grace)
    assert len(logged) == 20
    assert 1 <= len(ended) <= 6


def test_honest_requests_are_slow_and_over_to_the_moment_however_soon_they_follow() -> None:
    limits = RequestLimits(slow=2.0, terminate=5.0, grace=3.0)
    before = NEW.logged(102.0).over(105.0, 0.1, 3.0)
    done = before.followed_by(2, limits)
    following = reading(since=105.01, deadline=110.01, number=2)
    step, again = next_step(following, done, limits, 106.0)
    assert step is Step.NOTHING
    assert again == pytest.approx(107.01)
    assert next_step(following, done, limits, 107.02)[0] is Step.LOG
    step, again = next_step(following, done.logged(107.02), limits, 107.02)
    assert step is Step.NOTHING
    assert again == pytest.approx(110.01)


def test_who_is_forgiven_is_not_over_again_at_once() -> None:
    done = OVER.forgiven()
    step, again = next_step(reading(deadline=0.0), done, BOTH, 105.1)
    assert (step, again) == (Step.NOTHING, 105.0 + LEAST_EXTENSION)
    assert next_step(reading(deadline=200.0), done, BOTH, 150.0) == (Step.NOTHING, 200.0)


@pytest.mark.parametrize(
    ("since", "now", "late"), [(10.0, 15.0, False), (10.0, 15.1, True), (10.0, 10.0, False), (10.0, 9.0, False)]
)
def test_is_late(since: float, now: float, late: bool) -> None:
    assert is_late(since, now, 5.0) is late


def test_silent_peers_are_those_that_are_read_from_for_too_long() -> None:
    readings = [
        (0, reading(READING, 100, number=11)),
        (1, reading(READING, 108, number=12)),
        (2, reading(RUNNING, 1, number=13)),
        (3, reading(IDLE, 1, number=14)),
    ]
    assert silent_peers(readings, 106.0, 5.0) == [(0, 11)]


@given(st.integers(0, 255), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_whatever_a_slot_says(stage: int, since: int, number: int) -> None:
    found = silent_peers([(3, Reading(stage, since, number, 0, 0, 0, 0))], 1e6, 10.0)
    assert found in ([], [(3, number)])
