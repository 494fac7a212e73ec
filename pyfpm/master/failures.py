"""Why a pool cannot start a template or a worker, how often in a row, and what of it is worth a line.

Runs in: master.
Fails by: nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.master.backoff import LONGEST_PAUSE, Streak
from pyfpm.master.reason import Reason

if TYPE_CHECKING:
    from pyfpm.logs.error_log import ErrorLog


LINES_EXPLAINED = 6


class Failures:
    """The failures in a row of one kind of process in one pool."""

    def __init__(self, pool: str, log: ErrorLog) -> None:
        self.streak = Streak()
        self.reason: Reason | None = None  # of the last one, with the end of its traceback; None when all is well
        self._pool = pool
        self._log = log

    def count(self, reason: Reason, now: float) -> None:
        """One more.

        What is new is logged. That it goes on is logged once; further failures for the same reason are for debugging.
        """
        before, self.streak = self.streak, self.streak.after_failure(now)
        if self.reason is None or _signature(reason.first) != _signature(self.reason.first):
            self._log.error(reason.code, reason.first, self._pool, reason.detail)
        else:
            self._log.debug(reason.first, self._pool)
        explained = [reason.first, *reason.detail.split("\n")[-LINES_EXPLAINED:]]
        self.reason = Reason(reason.code, "\n".join(explained).rstrip())
        if before.failures < self.streak.failures == 2:
            self._log.warning(
                catalogue.FAILED_TWICE,
                f"failed twice in a row; it is tried again in longer and longer intervals of up to {LONGEST_PAUSE:g} "
                "seconds, and what fails for the same reason is not logged again",
                self._pool,
            )

    def end(self, since: float) -> None:
        """One that is ready since then is well: the streak is over, unless it has gone on after that."""
        if since > self.streak.last:
            self.streak = Streak()
            self.reason = None


def _signature(reason: str) -> str:
    """What stays the same when the same thing fails again: not its pid, and not how many seconds it took."""
    return "".join(char for char in reason if not char.isdigit())
