"""Shedding without time stamps, against a queue that is played through: never too early, and soon enough."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from pyfpm.master.behind import LEAST_INTERVAL, Behind

LIMIT = 1.0
EVENTS = st.lists(
    st.tuples(st.floats(0.001, 0.7), st.sampled_from(("come", "come", "come", "take", "look", "look"))), max_size=200
)


def test_nothing_is_marked_before_the_limit_has_passed() -> None:
    behind = Behind(LIMIT)
    behind.note(10.0, 5, 3)
    assert behind.mark(11.0, 5) == 0
    assert behind.mark(11.001, 5) == 8
    assert behind.mark(11.001, 7) == 8
    assert behind.mark(11.001, 8) == 0, "all of them are taken up: nobody needs to look at the mark"


def test_the_newest_sample_that_is_old_enough_counts() -> None:
    behind = Behind(LIMIT)
    for step in range(30):
        behind.note(step / 10, step, 50)
    assert behind.mark(2.95, 30) == 50 + 19
    behind.forget()
    assert behind.mark(100.0, 0) == 0


def test_few_samples_are_needed() -> None:
    assert Behind(60.0).interval == 6.0
    assert Behind(0.001).interval == LEAST_INTERVAL


@given(EVENTS)
def test_against_a_real_queue(events: list[tuple[float, str]]) -> None:
    """Connections come, are looked at, and are taken up, at any moments."""
    behind = Behind(LIMIT)
    queue: deque[tuple[int, float]] = deque()  # (place, when it came)
    now, come, taken, mark = 0.0, 0, 0, 0
    looks: list[float] = []
    last_marked = 0.0
    for passed, event in events:
        now += passed
        if event == "come":
            come += 1
            queue.append((come, now))
        elif event == "look":
            behind.note(now, taken, len(queue))
            mark = behind.mark(now, taken)
            looks.append(now)
            last_marked = now
        elif queue:
            taken += 1
            place, came = queue.popleft()
            assert place == taken
            is_refused = place <= mark
            if is_refused:
                assert now - came > LIMIT, "it had not waited so long"
            # It is refused for certain if a sample was taken since it came that was old enough at the last look.
            elif any(came <= look < last_marked - LIMIT for look in looks):
                raise AssertionError("it was there at a look, longer than the limit before the last one")
