"""What the daemon is doing, what may follow what, and how hard it pushes: tables.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing; every (phase, wish) pair has a row, which a test proves.
"""

from __future__ import annotations

import enum
import signal


class Phase(enum.Enum):
    """What the daemon as a whole is doing. The master holds one, from its first turn to its last; NEXT moves it on."""

    STARTING = "starting"
    RUNNING = "running"
    FINISHING = "finishing"
    TERMINATING = "terminating"


class Wish(enum.Enum):
    """What an event asks of the daemon as a whole."""

    SERVE = "serve"
    FINISH = "finish"
    TERMINATE = "terminate"


# A stronger wish overrides; the same or a weaker one changes nothing.
NEXT: dict[tuple[Phase, Wish], Phase] = {
    (Phase.STARTING, Wish.SERVE): Phase.RUNNING,
    (Phase.STARTING, Wish.FINISH): Phase.FINISHING,
    (Phase.STARTING, Wish.TERMINATE): Phase.TERMINATING,
    (Phase.RUNNING, Wish.SERVE): Phase.RUNNING,
    (Phase.RUNNING, Wish.FINISH): Phase.FINISHING,
    (Phase.RUNNING, Wish.TERMINATE): Phase.TERMINATING,
    (Phase.FINISHING, Wish.SERVE): Phase.FINISHING,
    (Phase.FINISHING, Wish.FINISH): Phase.FINISHING,
    (Phase.FINISHING, Wish.TERMINATE): Phase.TERMINATING,
    (Phase.TERMINATING, Wish.SERVE): Phase.TERMINATING,
    (Phase.TERMINATING, Wish.FINISH): Phase.TERMINATING,
    (Phase.TERMINATING, Wish.TERMINATE): Phase.TERMINATING,
}

# How workers are asked to leave: from when on, counted from the beginning of the phase, and by which signal.
# `grace` is process_control_timeout.
LAST_SECOND = 1.0


def is_harsher(one: signal.Signals | None, other: signal.Signals) -> bool:
    """Whether who got `one` has been asked more firmly than `other` would."""
    order = (None, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL)
    return order.index(one) > order.index(other)


def pressure(phase: Phase, elapsed: float, grace: float) -> signal.Signals | None:
    """The signal that workers should have had by now in this phase; None while they are to go on."""
    steps: tuple[tuple[float, signal.Signals], ...]
    if phase is Phase.FINISHING:
        steps = ((grace + LAST_SECOND, signal.SIGKILL), (grace, signal.SIGTERM), (0.0, signal.SIGQUIT))
    elif phase is Phase.TERMINATING:
        steps = ((grace, signal.SIGKILL), (0.0, signal.SIGTERM))
    else:
        return None
    return next(number for since, number in steps if elapsed >= since)
