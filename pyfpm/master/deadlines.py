"""Who is over time: readings and a moment in, names out.

Runs in: master.   Pure: no system call, no clock, no log.
Fails by: nothing to fail at; a reading is gossip, and the worst it can do is to have its own worker looked at.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from typing import NamedTuple

from pyfpm.scoreboard import FINISHING, RAISED, READING, RUNNING, Reading

TELL_AGAIN = 0.1  # seconds; a worker that could not be interrupted where it was is asked again
LEAST_EXTENSION = 1.0  # seconds from the end that it puts off to the next: whoever extends by less may be that late


def silent_peers(readings: Iterable[tuple[int, Reading]], now: float, limit: float) -> list[tuple[int, int]]:
    """(slot, request number) of workers that have waited longer than `limit` seconds for the head of a request.

    A worker's first read is a plain blocking one: a time limit of its own would cost a system call a request. So the
    master, who sees since when it waits, tells it to give up.
    """
    return [
        (slot, reading.number)
        for slot, reading in readings
        if reading.stage == READING and now - reading.since / 1e9 > limit
    ]


def is_late(since: float, now: float, limit: float) -> bool:
    """Whether something begun at `since` has had its `limit` of seconds."""
    return now - since > limit


class Step(enum.Enum):
    """What is to be done about a request."""

    NOTHING = "nothing"
    LOG = "log that it is slow"
    END = "log that its time is over, and see where it is"
    TELL = "tell its worker to raise the exception"
    FORGIVE = "it has got more time meanwhile"
    KILL = "kill its worker"


class RequestLimits(NamedTuple):
    """The time limits of a pool's requests in seconds; 0 for none."""

    slow: float = 0.0
    terminate: float = 0.0
    grace: float = 0.0
    track_finished: bool = False

    @property
    def shortest(self) -> float:
        """No request that begins from now on can be over time before that; inf where nothing is limited."""
        return min(self.slow or math.inf, self.terminate or math.inf)

    @property
    def stages(self) -> tuple[int, ...]:
        """Where a request can be over time: an idle connection and the wait for a head never are."""
        return (RUNNING, FINISHING) if self.track_finished else (RUNNING,)


class Handled(NamedTuple):
    """What was done so far about request `number` of a worker.

    A slot may name a new request at every look, begun long ago. But a request begins after what was done about the one
    before it, and that bounds from when it can be slow, or over: for an honest slot these bounds never hold up a thing.
    """

    number: int = -1
    is_logged: bool = False
    tell_at: float | None = None  # None while its time is not over
    kill_at: float = math.inf
    slow_from: float = -math.inf
    over_from: float = -math.inf
    acted_at: float = -math.inf  # when something was last done, about this request or one before it

    def followed_by(self, number: int, limits: RequestLimits) -> Handled:
        """The worker is at another request."""
        return Handled(
            number,
            slow_from=self.acted_at + limits.slow,
            over_from=self.acted_at + limits.terminate,
            acted_at=self.acted_at,
        )

    def logged(self, now: float) -> Handled:
        """It is in the slow log."""
        return self._replace(is_logged=True, acted_at=now)

    def over(self, now: float, patience: float, grace: float) -> Handled:
        """Its time is over. Its stacks may take `patience`; then it is told, and after `grace` killed."""
        return self._replace(tell_at=now + patience, kill_at=now + patience + grace, acted_at=now)

    def sooner(self, now: float, grace: float) -> Handled:
        """The stacks are there already."""
        assert self.tell_at is not None
        return self._replace(tell_at=min(self.tell_at, now), kill_at=min(self.kill_at, now + grace))

    def told(self, now: float) -> Handled:
        return self._replace(tell_at=now + TELL_AGAIN)

    def forgiven(self) -> Handled:
        return self._replace(tell_at=None, kill_at=math.inf, over_from=self.acted_at + LEAST_EXTENSION)


def next_step(reading: Reading, done: Handled, limits: RequestLimits, now: float) -> tuple[Step, float]:
    """What to do about the request of this reading, and when to look at it again if that is nothing.

    `done` is about this request. A slot says when its request began and until when it may take. Once the time is over
    nothing that the slot says holds up the end any more, but an extension that comes before the exception.
    """
    if reading.stage not in limits.stages:
        return Step.NOTHING, math.inf
    deadline = reading.deadline / 1e9
    again = math.inf
    if limits.slow and not done.is_logged and reading.stage == RUNNING:
        again = max(reading.since / 1e9 + limits.slow, done.slow_from)
        if now >= again:
            return Step.LOG, now
    if not limits.terminate:
        return Step.NOTHING, again
    if done.tell_at is None:
        over_at = max(deadline, done.over_from)
        return (Step.END, now) if now >= over_at else (Step.NOTHING, min(again, over_at))
    if now >= done.kill_at:
        return Step.KILL, now
    if reading.deadline == RAISED:
        return Step.NOTHING, min(again, done.kill_at)
    if deadline > now:
        return Step.FORGIVE, now
    if now >= done.tell_at:
        return Step.TELL, now
    return Step.NOTHING, min(again, done.tell_at, done.kill_at)
