"""Who answers for a pool that cannot start: 503 at once, instead of a front server that waits for nobody.

Runs in: master.
Fails by: nothing; if not even this can be started, clients wait as they would without it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.master import deadlines
from pyfpm.master.backoff import Streak
from pyfpm.master.generation import Generation

if TYPE_CHECKING:
    from pyfpm.config.directives import PoolSettings
    from pyfpm.master.resources import PoolResources

APPLICATION = "pyfpm.gateway.unavailable:application"
NUMBER = 0  # of its generation: it is none of the pool's


class StandIn:
    """A generation of one worker with an application of our own, for as long as the pool has no other."""

    def __init__(self, resources: PoolResources) -> None:
        self.resources = resources
        self.generation: Generation | None = None
        self._down_since: float | None = None
        self._retired: list[Generation] = []
        self._streak = Streak()

    def reconcile(self, settings: PoolSettings, now: float, *, serving: bool, trouble: str) -> None:
        """Be there when the pool has been in trouble for pm.fail_fast_timeout, and not otherwise."""
        if serving:
            if not trouble:
                self._down_since = None
                self._streak = Streak()
            if self.generation is not None:
                self._retire(now)
            return
        if trouble and self._down_since is None:
            self._down_since = now
        limit = settings.pm_fail_fast_timeout
        if self._down_since is None or not limit or not deadlines.is_late(self._down_since, now, limit):
            return
        if self.generation is not None and self.generation.trouble:
            self._retire(now)
            self._streak = self._streak.after_failure(now)
        if self.generation is None and self._streak.allows(now):
            self._start(settings)
        if self.generation is not None:
            self.generation.want(1 - len(self.generation.children), now)

    def give_up(self) -> list[Generation]:
        """The generations that are left to wait for; the pool is closing."""
        left = [*self._retired, *([self.generation] if self.generation is not None else [])]
        self._retired, self.generation = [], None
        return left

    def retired(self) -> list[Generation]:
        left, self._retired = self._retired, []
        return left

    def _start(self, settings: PoolSettings) -> None:
        if not self._streak.failures:
            text = f"cannot serve for {settings.pm_fail_fast_timeout:g} seconds, requests are answered 503 now"
            self.resources.log.warning(catalogue.STAND_IN, text, settings.name)
        # The pool's own interpreter may be what is missing: then ours, if this user can reach it.
        ours = self._streak.failures % 2 == 1
        self.generation = Generation(
            NUMBER,
            replace(
                settings,
                app=APPLICATION,
                python=sys.executable if ours else settings.python,
                virtualenv=None if ours else settings.virtualenv,
                chdir=None,
                pythonpath=(),
                preload="yes",
                pm="static",
                pm_max_children=1,
                pm_max_requests=0,
                ping_path=None,  # a health check must not hear that all is well; a status page may still tell
            ),
            self.resources,
        )

    def _retire(self, now: float) -> None:
        if self.generation is not None:
            self.generation.dismiss_all(now)
            self._retired.append(self.generation)
            self.generation = None
