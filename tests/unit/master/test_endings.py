"""What the end of a worker means."""

from __future__ import annotations

import signal
from typing import Any, cast

import pytest

from pyfpm import catalogue
from pyfpm.master.backoff import YOUNG
from pyfpm.master.children import Child
from pyfpm.master.endings import Ending, judge
from pyfpm.master.processes import End
from pyfpm.master.reason import Reason
from pyfpm.scoreboard import IDLE, RUNNING, Reading

EXITED, FAILED = 0, 70 << 8
QUIT, TERM, KILL, SEGV = (number.value for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV))
BROKEN = Reason(catalogue.CANNOT_LOAD, "No module named 'shop'")
OLD = YOUNG + 1


def judged(
    status: int, *, lived: float = OLD, number: int = 0, stage: int = IDLE, dismissed: bool = False, **child: object
) -> Ending:
    made = Child(cast("Any", None), 0.0, 7, **{"ready": True, **child})  # type: ignore[arg-type]
    reading = Reading(stage, 0, number, number, 7, 1, 0)
    return judge(made, End(7, status), reading, lived, dismissed=dismissed)


@pytest.mark.parametrize("dismissed", [False, True])
@pytest.mark.parametrize(
    ("status", "pressed", "stage", "ready", "ending"),
    [
        (EXITED, signal.SIGQUIT, IDLE, True, Ending.OBEYED),
        (TERM, signal.SIGTERM, IDLE, True, Ending.OBEYED),
        (TERM, signal.SIGTERM, RUNNING, True, Ending.CUT_OFF),
        (EXITED, signal.SIGTERM, RUNNING, True, Ending.CUT_OFF),
        (TERM, signal.SIGQUIT, IDLE, True, Ending.CUT_OFF),
        (KILL, signal.SIGKILL, IDLE, True, Ending.CUT_OFF),
        (SEGV, signal.SIGQUIT, IDLE, True, Ending.CUT_OFF),
        (FAILED, signal.SIGQUIT, IDLE, True, Ending.CUT_OFF),
        (KILL, signal.SIGKILL, IDLE, False, Ending.OBEYED),
        (FAILED, None, IDLE, False, Ending.OBEYED),
    ],
)
def test_who_was_asked_to_leave(
    status: int, pressed: signal.Signals | None, stage: int, ready: bool, ending: Ending, dismissed: bool
) -> None:
    assert judged(status, stage=stage, leaving_since=1.0, pressed=pressed, ready=ready, dismissed=dismissed) is ending


@pytest.mark.parametrize(
    ("status", "lived", "number", "reason", "ending"),
    [
        (FAILED, 0.1, 0, BROKEN, Ending.FAILED_TO_START),
        (KILL, OLD, 0, BROKEN, Ending.FAILED_TO_START),  # it was late
        (EXITED, 0.1, 0, None, Ending.FAILED_TO_START),
        (SEGV, 0.1, 0, None, Ending.FAILED_TO_START),
        (SEGV, 0.1, 1, None, Ending.DIED),
        (SEGV, OLD, 0, None, Ending.DIED),
        (FAILED, OLD, 5, None, Ending.DIED),
        (EXITED, OLD, 5, None, Ending.LEFT),
        (EXITED, 0.1, 1, None, Ending.LEFT),
        (QUIT, OLD, 5, None, Ending.LEFT),
    ],
)
def test_who_was_not(status: int, lived: float, number: int, reason: Reason | None, ending: Ending) -> None:
    assert judged(status, lived=lived, number=number, reason=reason) is ending


def test_a_request_that_took_too_long() -> None:
    assert judged(KILL, stage=RUNNING, number=1, timed_out=True) is Ending.TIMED_OUT
    assert judged(KILL, stage=RUNNING, number=1, timed_out=True, leaving_since=1.0) is Ending.CUT_OFF


def test_nobody_fails_to_start_in_a_generation_that_is_to_leave() -> None:
    """Remains of an earlier image have no history here: they look as if they had just been born."""
    assert judged(EXITED, lived=0.1, dismissed=True) is Ending.LEFT
    assert judged(SEGV, lived=0.1, dismissed=True) is Ending.DIED
