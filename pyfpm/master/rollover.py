"""A pool between two generations: the new one proves itself, then takes over worker by worker, or is thrown away.

Runs in: master.
Fails by: returning the reason why the new generation is refused; the old one has been serving all the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.master import deadlines
from pyfpm.master.reason import Reason
from pyfpm.master.sizing import hand_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.config.directives import PoolSettings
    from pyfpm.master.generation import Generation
    from pyfpm.master.resources import PoolResources


LAST_WORDS = 5.0  # seconds that old workers are waited for, if they are not in a request


@dataclass(eq=False)
class Rollover:
    """The candidate for a pool. `target` is how many workers it must have; unknown until it has proved itself."""

    candidate: Generation
    resources: PoolResources
    settings: PoolSettings
    since: float
    done: Callable[[Reason | None], None]
    target: int | None = None
    handed_over_at: float | None = None
    is_impatient: bool = False  # one of the old has not gone in LAST_WORDS: nobody is waited for any more

    @property
    def is_proven(self) -> bool:
        """The candidate has shown that it can serve; from then on it takes over."""
        return self.target is not None

    def step(self, old: Generation, now: float, waiting: int) -> Reason | bool:
        """Go on by one step; whether the candidate has taken over, or why it is refused."""
        candidate = self.candidate
        if candidate.explanation is not None:
            return candidate.explanation
        if self.target is None:
            if not self._has_a_worker(now):
                limit = self.settings.reload_timeout
                text = f"no worker was ready within {limit:g} seconds"
                return deadlines.is_late(self.since, now, limit) and Reason(catalogue.RELOAD_TOO_SLOW, text)
            self.target = min(max(old.census().total, 1), self.settings.pm_max_children)
        return self._hand_over(old, now, waiting)

    def _has_a_worker(self, now: float) -> bool:
        """Its first worker is ready, which it is only after it has answered the probe, if there is one."""
        self.candidate.want(0 if len(self.candidate.children) else 1, now, must_prove_itself=True)
        return self.candidate.is_serving

    def _hand_over(self, old: Generation, now: float, waiting: int) -> bool:
        assert self.target is not None
        census = self.candidate.census(waiting)
        ready = census.idle + census.busy
        # The load does not stop growing because we reload.
        need = census.total + max(0, waiting - census.idle - census.starting)
        self.target = min(max(self.target, need), self.settings.pm_max_children)
        staying = old.staying() + old.outlived()
        step = hand_over(
            old=len(staying),
            leaving=self._about_to_go(old, now),
            new_ready=ready,
            new_starting=census.starting,
            target=self.target,
            most=self.settings.pm_max_children,
            surge=self.settings.reload_surge,
        )
        self.candidate.want(step.start, now)
        if step.retire:
            idle = [child for _, child in old.idle()]
            old.dismiss([*idle, *(child for child in staying if child not in idle)][: step.retire], now)
        if ready < self.target or len(staying) > step.retire:
            return False
        # Who is told that the reload is over must not be answered by the old code any more: an idle worker can take one
        # more connection before it hears that it is to leave, and so can one that is being born.
        self.handed_over_at = self.handed_over_at or now
        return self.is_impatient or not old.may_accept() or deadlines.is_late(self.handed_over_at, now, LAST_WORDS)

    def _about_to_go(self, old: Generation, now: float) -> int:
        leaving = [] if self.is_impatient else old.about_to_go()
        self.is_impatient = self.is_impatient or any(now - since > LAST_WORDS for since in leaving)
        return 0 if self.is_impatient else len(leaving)
