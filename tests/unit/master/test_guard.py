"""Faults of our own: swallowed, reported, and within measure."""

from __future__ import annotations

from pyfpm.logs.error_log import ErrorLog
from pyfpm.master.guard import MINUTE, MOST_REPORTS, guard
from tests.unit.logs.test_error_log import Sink


def test_one_place_that_fails_for_ever_does_not_hide_a_later_fault() -> None:
    now = 100.0
    sink = Sink()
    log = ErrorLog(clock=lambda: 0.0)
    log.write_to(sink)
    log.launched()
    guarded = guard(log, lambda: now)
    for _ in range(MOST_REPORTS + 7):
        with guarded():
            raise ValueError("for ever")
    assert sum(b"a fault in pyfpm" in line for line in sink.lines) == MOST_REPORTS
    now += MINUTE
    sink.lines.clear()
    for _ in range(2):
        with guarded():
            raise KeyError("later")
    heads = [line for line in sink.lines if b"a fault in pyfpm" in line]
    assert [b"; 7 more before this one were not logged" in head for head in heads] == [True, False]
    assert any(b"KeyError: 'later'" in line for line in sink.lines)
