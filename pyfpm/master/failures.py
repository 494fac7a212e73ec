"""Why a pool cannot start a template or a worker, how often in a row, and what of it is worth a line.

Runs in: master.
Fails by: nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfpm.master.backoff import LONGEST_PAUSE, Streak

if TYPE_CHECKING:
    from pyfpm.logs.error_log import ErrorLog


LINES_EXPLAINED = 6


class Failures:
    """The failures in a row of one kind of process in one pool."""

    def __init__(self, pool: str, log: ErrorLog) -> None:
        self.streak = Streak()
        self.reason = ""  # of the last one, in a line; empty when all is well
        self.explanation = ""  # the same with the end of its traceback
        self._pool = pool
        self._log = log

    def count(self, reason: str, now: float) -> None:
        """One more, `reason` may have lines of detail.

        What is new is logged. That it goes on is logged once; further failures for the same reason are for debugging.
        """
        self.streak = self.streak.after_failure(now)
        first, _, detail = reason.partition("\n")
        if _signature(first) != _signature(self.reason):
            self._log.error(first, self._pool, detail)
        else:
            self._log.debug(first, self._pool)
        self.reason = first
        self.explanation = "\n".join([first, *detail.split("\n")[-LINES_EXPLAINED:]]).rstrip()
        if self.streak.failures == 2:
            self._log.warning(
                f"failed twice in a row; it is tried again in longer and longer intervals of up to {LONGEST_PAUSE:g} "
                "seconds, and what fails for the same reason is not logged again",
                self._pool,
            )

    def end(self) -> None:
        """The last one did start, or has lived long enough to be called well."""
        self.streak = Streak()
        self.reason = self.explanation = ""


def _signature(reason: str) -> str:
    """What stays the same when the same thing fails again: not its pid, and not how many seconds it took."""
    return "".join(char for char in reason if not char.isdigit())
