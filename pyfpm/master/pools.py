"""A pool: its listener, its generations, and how many workers are wanted.

Runs in: master.
Fails by: nothing that a pool does reaches the master.

Events (a message, an end, a signal) only change what is known. `reconcile` compares that with what is wanted, once a
turn, and acts; so an event that got lost costs a turn and never a worker.
"""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.master import deadlines
from pyfpm.master.backoff import is_emergency
from pyfpm.master.figures import Figures
from pyfpm.master.generation import Generation
from pyfpm.master.reason import Reason
from pyfpm.master.rollover import Rollover
from pyfpm.master.shedding import Shedding
from pyfpm.master.sizing import Census, Orders, Plan, orders_for
from pyfpm.master.standin import StandIn
from pyfpm.status.snapshot import RELOADED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyfpm.config.directives import PoolSettings
    from pyfpm.master.backlog import Backlog, Queue
    from pyfpm.master.processes import End
    from pyfpm.master.resources import PoolResources

STOPPING = Reason(catalogue.RELOAD_CUT_SHORT, "the daemon is stopping")
OVERTAKEN = Reason(catalogue.RELOAD_OVERTAKEN, "another reload has overtaken it")
EPISODE_GAP = 10.0  # seconds without a shortage, and the next one is another
# Deaths by these say that the process is broken, not that somebody killed it (PHP-FPM's emergency restart).
_CRASHES = (signal.SIGSEGV, signal.SIGBUS)


class Pool:
    """One pool, from the start or reload that brings it until its last worker has gone after one that has it no more.

    `Daemon.open_pool` makes it, with listeners and logs open and nobody in it. Then it is told: `reconcile` at every
    turn, `bury` what has ended, `roll` to have new code, and at last `finish`, `leave` or `terminate`. When nobody is
    left (`is_gone`), whoever has it closes it.
    """

    def __init__(self, settings: PoolSettings, resources: PoolResources, backlog: Backlog) -> None:
        self.settings = settings
        self.name = settings.name
        self.resources = resources
        self.plan = plan_of(settings)
        self.current = self._new_generation(1, settings, resources)
        self.rollover: Rollover | None = None
        self.reloads = 0  # that have ended, one way or the other
        self.last_reload = ""  # how the last one went; the pool's user reads it, and so may everybody
        self.times_at_limit = 0
        self.figures = Figures(backlog)
        self._launched = False
        self._closing = False
        self._leaving: list[Generation] = []
        self._backlog = backlog
        self._shedding = Shedding()
        self._stand_in = StandIn(resources)
        self._legacy: Generation | None = None  # workers of an image before this one, until ours serve
        self._knocked = False  # a connection came while nobody was idle
        self._listening_for_knocks = False
        self.is_starved = False  # it has no worker because process.max leaves it none
        self._lacking_at: float | None = None  # when it last lacked workers for that
        self._short_at: float | None = None  # when it last needed more workers than it may have
        self._fresh = True
        self._unused_since: float | None = None
        self._is_down = False  # it was said that it does not serve
        self._crashes: list[float] = []

    # ── what the master asks ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def can_serve(self) -> bool:
        """Whether a request would be answered by the application: by a worker, or by one that is forked for it."""
        if self.plan.manager == "ondemand":
            can_fork = self.current.has_loaded or self._unused_since is not None
            return self.current.is_serving or (can_fork and not self.trouble)
        return self.current.is_serving

    @property
    def has_been_tried(self) -> bool:
        """It is known how its start goes: it serves, or it cannot."""
        return self.can_serve or self.is_starved or self.current.has_failed_to_start

    @property
    def has_legacy(self) -> bool:
        """Workers of an earlier image of this master answer as long as ours do not."""
        return self._legacy is not None and self._legacy.is_serving

    @property
    def trouble(self) -> str:
        """Why it cannot start what it wants to start; empty when it can."""
        return self.current.trouble

    @property
    def explanation(self) -> Reason | None:
        """The trouble with the end of its traceback, for people."""
        return self.current.explanation

    @property
    def is_gone(self) -> bool:
        return self._closing and all(generation.is_gone for generation in self.generations())

    def generations(self) -> Iterator[Generation]:
        yield self.current
        if self.rollover is not None:
            yield self.rollover.candidate
        if self._stand_in.generation is not None:
            yield self._stand_in.generation
        if self._legacy is not None:
            yield self._legacy
        yield from self._leaving

    def all_resources(self) -> list[PoolResources]:
        """What it has open, and what a generation has that is about to take over."""
        return [self.resources] if self.rollover is None else [self.resources, self.rollover.resources]

    @property
    def state(self) -> str:
        """In a word, for people."""
        if self._closing:
            return "closing"
        if self.rollover is not None:
            return "reloading"
        if self.can_serve:
            return "serving"
        return "failing" if self.trouble else "starting"

    def queue(self) -> Queue | None:
        """Its listen queue at this moment."""
        return self.figures.look_at_queue(self)

    def processes(self) -> int:
        """How many workers there are, whatever they are doing: what process.max counts."""
        return sum(len(generation.children) for generation in self.generations())

    @property
    def files_changed(self) -> str | None:
        """The answer to `ask_files`: a file that has changed, "" if none has; None as long as there is no answer."""
        return self.current.templates.files_changed

    def next_due(self, now: float) -> float:
        return min([self._shedding.next_due(), *(generation.next_due(now) for generation in self.generations())])

    # ── what the master tells it ────────────────────────────────────────────────────────────────────────────────────

    def launch(self) -> None:
        """The daemon is up: from now on the birth of a worker is news."""
        self._launched = self.current.news = True
        self._is_down = not self.can_serve

    def reconcile(self, now: float, room: int) -> None:
        """Bring what is nearer to what is wanted; at most `room` more workers may be started (process.max)."""
        if self._sleeps(now):
            self.figures.keep(self, now)
            return
        if not self._closing:
            if self._legacy is not None and self.can_serve:
                self._let_legacy_go(now)
            if self.rollover is None or not self.rollover.is_proven:
                self._size(now, room)  # loading may take a minute: who serves meanwhile grows and is replaced as ever
            if self.rollover is not None:
                self._roll(self.rollover, now)
            serving = self.can_serve or self.has_legacy
            self._stand_in.reconcile(self.settings, now, serving=serving, trouble=self.trouble)
        for generation in list(self.generations()):
            generation.look_after(now)
        self._drop_the_gone()
        self._note_service()
        self._shedding.look_after(self, now)
        self.figures.keep(self, now)

    def roll(
        self, settings: PoolSettings, resources: PoolResources, done: Callable[[Reason | None], None], now: float
    ) -> None:
        """Begin to replace the current generation; `done` is told why it was refused, or None."""
        if self.rollover is not None:  # by an emergency; what is asked for now is newer
            rollover, self.rollover = self.rollover, None
            self._throw_away(rollover, OVERTAKEN, now)
        candidate = self._new_generation(self.current.number + 1, settings, resources)
        candidate.news = self._launched
        self.rollover = Rollover(candidate, resources, settings, now, done)

    def adopt_legacy(self, number: int, workers: list[tuple[int, int, tuple[int, ...]]], now: float) -> None:
        """Take over the workers that an earlier image of this master had; they leave when ours serve."""
        settings = replace(self.settings, pm_max_children=max(len(workers), 1))
        self._legacy = Generation(number, settings, self.resources)
        self._legacy.adopt(workers, now)
        self.current.number = number + 1

    def finish(self, now: float) -> None:
        """Everybody is to leave, requests in hand are finished."""
        self._close_doors(now)
        for generation in self.generations():
            generation.dismiss_all(now)

    def leave(self, now: float) -> None:
        """It is in the configuration no more: what is in hand is finished, and nobody can connect from now on."""
        self.finish(now)
        self.resources.close_listeners()

    def terminate(self, number: signal.Signals, now: float) -> None:
        self._close_doors(now)
        for generation in self.generations():
            generation.press(number, now)

    def ask_files(self) -> bool:
        """Ask whether the application's files have changed, see `files_changed`; False if there is nobody to ask."""
        return self.current.templates.ask_files()

    def note_reload(self, how: str) -> None:
        """One has ended: RELOADED, or why it was refused. That is read by others than root: nothing of other pools."""
        self.reloads += 1
        self.last_reload = how

    def has_worker(self, pid: int) -> bool:
        return any(generation.children.with_pid(pid) is not None for generation in self.generations())

    def hear_newborns(self, now: float) -> None:
        """Hear those workers that were ordered and have not yet said who they are."""
        for generation in self.generations():
            generation.hear_newborns(now)

    def bury(self, end: End, now: float) -> bool:
        """A child of the master has ended; False if it was none of this pool's."""
        for generation in self.generations():
            if generation.bury(end, now):
                if generation is self.current and end.by in _CRASHES:
                    self._count_crash(now)
                return True
        return False

    def close(self) -> None:
        for generation in self.generations():
            generation.close()
        self.resources.log.write_to(None)
        self.resources.close()

    # ── the ordinary case: one generation ───────────────────────────────────────────────────────────────────────────

    def _sleeps(self, now: float) -> bool:
        """Nobody is there and nobody knocks, as in most pools of a box with many: that must cost next to nothing."""
        return (
            self._listening_for_knocks
            and not len(self.current.children)
            and self.current.has_loaded
            and self.rollover is None
            and not (self._leaving or self._closing or self._legacy or self._stand_in.generation or self.trouble)
            and not self._shedding.is_watching
            and not self.settings.pm_template_idle_timeout
            and self.current.next_due(now) == math.inf
        )

    def _size(self, now: float, room: int) -> None:
        generation, plan = self.current, self.plan
        census = generation.census()
        waiting = self._waiting(census, plan)
        if self.trouble and not census.total:
            waiting = max(waiting, 1)  # visitors may get 503 by now and never knock: it is tried without them
        if waiting:
            census = census._replace(waiting=waiting)
        idle = generation.idle() if plan.manager != "static" else []
        too_long = sum(1 for since, _ in idle if now - since > self.settings.pm_process_idle_timeout)
        orders = orders_for(plan, census, fresh=self._fresh, idle_too_long=too_long)
        self._fresh = self._fresh and census.total < plan.start
        start = self._make_room(generation, census, orders, plan, room, now)
        generation.want(start, now, keep_template=self._keeps_template(census, orders, now))
        generation.dismiss([child for _, child in idle[: orders.retire]], now)
        self._note_limit(orders, plan, now)
        self._listen_for_need(generation, census, orders, plan, now)

    def _waiting(self, census: Census, plan: Plan) -> int:
        """The listen queue, looked at only while too few are idle; what is unknown counts as one after a knock."""
        knocked, self._knocked = self._knocked, False
        if census.idle >= plan.alarm_below:
            return 0
        queue = self._backlog.of(self.resources.listener.socket)
        return queue.waiting if queue is not None else int(knocked)

    def _make_room(
        self, generation: Generation, census: Census, orders: Orders, plan: Plan, room: int, now: float
    ) -> int:
        """How many to start now. Workers that have reached a limit leave when they are replaced, or to make room."""
        outlived = generation.outlived()
        if not orders.start and not census.starting:
            generation.dismiss(outlived, now)
            return 0
        free = plan.most - census.total - len(outlived)
        generation.dismiss(outlived[: max(0, orders.start - free)], now)
        start = min(orders.start, max(0, room))
        self.is_starved = start == 0 and generation.has_loaded and not len(generation.children)
        self._note_room(orders.start - start, now)
        return start

    def _keeps_template(self, census: Census, orders: Orders, now: float) -> bool:
        """A pool that nobody visits gives up its template too (pm.template_idle_timeout)."""
        limit = self.settings.pm_template_idle_timeout
        if census.total or orders.start or census.waiting or not limit or not self.current.has_loaded:
            if self.current.has_loaded or census.total or orders.start:
                self._unused_since = None
            return self._unused_since is None
        self._unused_since = self._unused_since or now
        return not deadlines.is_late(self._unused_since, now, limit)

    def _note_room(self, lacking: int, now: float) -> None:
        """process.max keeps it from having what it would have; once an episode."""
        most = self.resources.daemon.process_max
        if not most or lacking <= 0:
            return
        if self._lacking_at is None or deadlines.is_late(self._lacking_at, now, EPISODE_GAP):
            text = f"no more workers by process.max ({most}), consider raising it"
            self.resources.log.warning(catalogue.PROCESS_MAX, text, self.name)
        self._lacking_at = now

    def _note_limit(self, orders: Orders, plan: Plan, now: float) -> None:
        """Once an episode: in the thick of it there is a worker idle for a moment every few milliseconds."""
        if not orders.short:
            return
        if self._short_at is None or deadlines.is_late(self._short_at, now, EPISODE_GAP):
            self.times_at_limit += 1
            text = f"server reached pm.max_children setting ({plan.most}), consider raising it"
            self.resources.log.warning(catalogue.MAX_CHILDREN, text, self.name)
        self._short_at = now

    def _note_service(self) -> None:
        """Say when it stops serving, and when it serves again; the start has its own words."""
        if not self._launched or self._closing:
            return
        if self._is_down:
            # Not while a streak of failures lasts: a worker that dies young would have it come and go with each try.
            if self.can_serve and not self.trouble:
                self._is_down = False
                self.resources.log.notice("the pool serves", self.name)
        elif self.trouble and not self.can_serve:
            self._is_down = True
            self.resources.log.warning(catalogue.POOL_DOWN, f"the pool does not serve: {self.trouble}", self.name)

    def _listen_for_need(self, generation: Generation, census: Census, orders: Orders, plan: Plan, now: float) -> None:
        """Be woken when more are needed: by a worker that rings, or by the listener if none is there to ring."""
        grows = plan.manager != "static" and census.total + orders.start < plan.most
        if grows:
            generation.listen_for_bell()
        nobody = not census.idle and not census.starting and not orders.start
        self._listen_for_knocks(grows and nobody and generation.may_start(now))

    def _listen_for_knocks(self, wanted: bool) -> None:
        if wanted == self._listening_for_knocks:
            return
        self._listening_for_knocks = wanted
        if wanted:
            self.resources.loop.watch(self.resources.listener.socket.fileno(), self._on_knock)
        else:
            self.resources.loop.forget(self.resources.listener.socket.fileno())

    def _on_knock(self, _now: float) -> None:
        self._knocked = True
        self._listen_for_knocks(False)

    # ── reloading: two generations ──────────────────────────────────────────────────────────────────────────────────

    def _roll(self, rollover: Rollover, now: float) -> None:
        outcome = rollover.step(
            self.current, now, self._waiting(rollover.candidate.census(), plan_of(rollover.settings))
        )
        if outcome is False:
            return
        self.rollover = None
        if outcome is True:
            self._promote(rollover, now)
            self.note_reload(RELOADED)
            rollover.done(None)
        else:
            self._throw_away(rollover, outcome, now)

    def _throw_away(self, rollover: Rollover, reason: Reason, now: float) -> None:
        rollover.candidate.dismiss_all(now)
        self._leaving.append(rollover.candidate)
        rollover.resources.close_unshared(self.resources)
        self.note_reload(str(reason))
        rollover.done(reason)

    def _promote(self, rollover: Rollover, now: float) -> None:
        self._listen_for_knocks(False)  # the listener may be another one from now on
        self.current.dismiss_all(now)
        self._leaving.append(self.current)
        self.resources.log.write_to(rollover.resources.error_log)  # for those that leave, too
        self.resources.close_unshared(rollover.resources)
        self.current, self.settings, self.resources = rollover.candidate, rollover.settings, rollover.resources
        self.plan = plan_of(self.settings)
        self._stand_in.resources = self.resources
        self._fresh = False
        self._unused_since = None

    # ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _count_crash(self, now: float) -> None:
        daemon = self.resources.daemon
        count, interval = daemon.emergency_restart_threshold, daemon.emergency_restart_interval
        self._crashes = [*self._crashes, now][-max(1, count) :]
        if self.rollover is None and is_emergency(self._crashes, count, interval):
            text = f"failed processes threshold ({count} in {interval:g} sec) is reached, initiating reload"
            self.resources.log.warning(catalogue.EMERGENCY, text, self.name)
            self._crashes.clear()
            self.roll(self.settings, self.resources, lambda _refusal: None, now)

    def _let_legacy_go(self, now: float) -> None:
        if self._legacy is not None:
            self._legacy.dismiss_all(now)
            self._leaving.append(self._legacy)
            self._legacy = None

    def _close_doors(self, now: float) -> None:
        self._closing = True
        self._let_legacy_go(now)
        self._listen_for_knocks(False)
        if self.rollover is not None:
            rollover, self.rollover = self.rollover, None
            self._throw_away(rollover, STOPPING, now)
        self._leaving += self._stand_in.give_up()

    def _drop_the_gone(self) -> None:
        self._leaving += self._stand_in.retired()
        for generation in [one for one in self._leaving if one.is_gone]:
            self.figures.drop(generation)
            generation.close()
            self._leaving.remove(generation)

    def _new_generation(self, number: int, settings: PoolSettings, resources: PoolResources) -> Generation:
        return Generation(number, settings, resources, plan_of(settings).alarm_below)


def plan_of(settings: PoolSettings) -> Plan:
    """What of the settings decides about numbers."""
    if settings.pm != "dynamic":
        return Plan(settings.pm, settings.pm_max_children)
    return Plan(
        settings.pm,
        settings.pm_max_children,
        settings.pm_start_servers or 0,
        settings.pm_min_spare_servers or 0,
        settings.pm_max_spare_servers or 0,
        settings.pm_max_spawn_rate,
    )
