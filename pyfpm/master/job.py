"""A reload as a job: what it is about, how far it is, what came of it, and who may know that.

Runs in: master.
Fails by: nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pyfpm.catalogue import Code, marked

if TYPE_CHECKING:
    from pyfpm.config.directives import Configuration, PoolSettings
    from pyfpm.master.check import Check
    from pyfpm.master.control import Request
    from pyfpm.master.pools import Pool
    from pyfpm.master.resources import PoolResources

REFUSED = 1
# What others than the administrator may know of a refusal that is not one pool's own: it names other pools and paths.
ELSEWHERE = "the reload as a whole was refused; the administrator finds the reason in the error log"
OF_ITS_OWN = "its settings were refused; the error log says why"


class Roll(NamedTuple):
    """A pool that is to get a new generation, with these settings, listener and log."""

    pool: Pool
    settings: PoolSettings
    resources: PoolResources

    def close(self) -> None:
        """It is not to be: close what was opened for it."""
        self.resources.close_unshared(self.pool.resources)


class Outcome(NamedTuple):
    """What came of it for one pool; for all of them where `pool` is empty. `code` is set if it was refused."""

    pool: str
    text: str
    code: Code | None = None

    @property
    def is_refusal(self) -> bool:
        return self.code is not None

    def __str__(self) -> str:
        return marked(self.text, self.code)


@dataclass(eq=False)
class Job:
    """One reload. `names` are the pools it is about; none for all. `everything`: also what did not change."""

    names: tuple[str, ...] = ()
    everything: bool = False
    waiting: list[Request] = field(default_factory=list)
    since: float = 0.0
    configuration: Configuration | None = None
    check: Check | None = None
    asked: dict[str, Roll] = field(default_factory=dict)  # while the templates look at their files
    asked_since: float = 0.0
    to_roll: list[Roll] = field(default_factory=list)
    rolling: dict[str, Pool] = field(default_factory=dict)
    starting: dict[str, Pool] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def rolls_to_come(self) -> list[Roll]:
        """Those that no pool has been given yet."""
        return [*self.asked.values(), *self.to_roll]

    @property
    def refusals(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.is_refusal]

    def drop(self) -> None:
        """It goes no further: let go of what it holds and has given to nobody."""
        if self.check is not None:
            self.check.close()
            self.check = None
        for roll in self.rolls_to_come:
            roll.close()
        self.asked.clear()
        self.to_roll.clear()

    def say(self, pool: str, text: str) -> None:
        """Tell how it goes to those whom it concerns."""
        for request in self.waiting:
            if not request.pools or pool in request.pools:
                request.progress(text)

    def tell_the_end(self) -> None:
        """Tell everybody who waits what came of what he asked for: by name, not in the order in which it happened."""
        outcomes = sorted(self.outcomes, key=lambda outcome: outcome.pool)
        for request in self.waiting:
            seen = [outcome for outcome in outcomes if not request.pools or outcome.pool in ("", *request.pools)]
            request.answer([outcome.text for outcome in seen if not outcome.is_refusal])
            refusals = [_as_seen(outcome, request) for outcome in seen if outcome.is_refusal]
            if refusals:
                request.finish(REFUSED, "\n".join(dict.fromkeys(refusals)))
            else:
                request.finish(0, "reloaded")

    def is_of_the_master(self) -> bool:
        """Asked for by root, by the master's user, or by a signal; not by the user of a pool."""
        return not self.waiting or any(_is_of_the_master(request) for request in self.waiting)

    def join(self, other: Job) -> None:
        """Do what both would; about all pools if one of them is."""
        self.names = tuple(dict.fromkeys(self.names + other.names)) if self.names and other.names else ()
        self.everything = self.everything or other.everything
        self.waiting += other.waiting


def _is_of_the_master(request: Request) -> bool:
    return request.peer.uid in (0, os.geteuid())


def _as_seen(outcome: Outcome, request: Request) -> str:
    return str(outcome) if outcome.pool or _is_of_the_master(request) else ELSEWHERE


def note_of(pool: str, refusals: list[Outcome]) -> str:
    """What everybody may know of how the reload of a pool was refused."""
    own = [outcome for outcome in refusals if outcome.pool == pool]
    return marked(OF_ITS_OWN, own[0].code) if own else ELSEWHERE
