"""Reload: the new configuration beside the old, then pool by pool a new generation beside the old.

Runs in: master.
Fails by: refusing; whatever is refused, the old goes on, and whoever asked is told why.

A job goes through these steps, each of which may end it: read the text; let a child process check what start would
refuse; open what has to be opened; then roll the pools. Up to then nothing has changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.catalogue import marked
from pyfpm.config.load import load
from pyfpm.errors import ConfigError, StartError
from pyfpm.master import deadlines
from pyfpm.master.check import Check
from pyfpm.master.daemon import Daemon, manner_of, open_access_log, open_pool_log, try_slow_log
from pyfpm.master.job import REFUSED, Job, Outcome, Roll
from pyfpm.master.listeners import Listener, Terms, apply_ownership, open_listener
from pyfpm.master.logfiles import open_error_log
from pyfpm.master.reason import Reason

if TYPE_CHECKING:
    from pyfpm.config.directives import GlobalSettings, PoolSettings
    from pyfpm.config.values import Address
    from pyfpm.logs.files import LogFile
    from pyfpm.master.control import Request
    from pyfpm.master.pools import Pool
    from pyfpm.master.resources import PoolResources

CHECK_TIMEOUT = 30.0  # seconds; interpreters have 10 to answer, and are asked side by side
ANSWER_TIMEOUT = 5.0  # a template looks at a few thousand files in 10 ms
AT_A_TIME = 2  # pools that load at once: more would only take turns on the processors


class Reloads:
    """The reload under way, and those after it: one of the master's, one of the pools' owners, each for all who ask."""

    def __init__(self, daemon: Daemon) -> None:
        self.last_refusal = ""  # why the last one was refused, if it was
        self._daemon = daemon
        self._log = daemon.log
        self._job: Job | None = None
        self._next: dict[bool, Job] = {}  # by `is_of_the_master`

    @property
    def is_busy(self) -> bool:
        return self._job is not None

    def request(
        self, now: float, names: tuple[str, ...] = (), everything: bool = False, by: Request | None = None
    ) -> None:
        """Reload now, or after the reload under way: a second one is queued, and a third joins the second."""
        job = Job(names, everything, [by] if by is not None else [], now)
        if self._job is None:
            self._begin(job, now)
        elif queued := self._next.get(job.is_of_the_master()):
            queued.join(job)
        else:
            self._next[job.is_of_the_master()] = job

    def cancel(self) -> None:
        """The daemon is stopping."""
        for job in (self._job, *self._next.values()):
            if job is None:
                continue
            for request in job.waiting:
                request.finish(REFUSED, "the daemon is stopping")
            if job.check is not None:
                job.check.close()
            for roll in (*job.asked.values(), *job.to_roll):
                roll.resources.close_unshared(roll.pool.resources)
        self._job = None
        self._next.clear()

    def bury(self, pid: int) -> bool:
        """Whether a process that has ended was the check of a configuration; what it found came by its pipe."""
        return self._job is not None and self._job.check is not None and self._job.check.pid == pid

    def reconcile(self, now: float) -> None:
        """Take the next step of the job, if it can be taken."""
        job = self._job
        if job is None:
            return
        try:
            self._step(job, now)
        except (StartError, OSError) as error:
            self._refuse(job, [_refusal(error)], now)

    # ── the steps ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, job: Job, now: float) -> None:
        self._job = job
        job.since = now
        self._log.notice("Reloading in progress ...")
        self._daemon.notifier.reloading(time.monotonic_ns() // 1000)
        launch = self._daemon.launch
        try:
            configuration = load(
                launch.config_path, prefix=launch.prefix, environ=os.environ, as_root=os.geteuid() == 0, pid=launch.pid
            )
            job.configuration = configuration
            self._know_all_names(job)
            looked_at = [pool for pool in configuration.pools if not job.names or pool.name in job.names]
            job.check = Check(
                self._daemon.loop, replace(configuration, pools=tuple(looked_at)), allow_root=launch.allow_root
            )
        except ConfigError as error:
            self._refuse(job, [Outcome("", str(problem), problem.code) for problem in error.problems], now)
        except (StartError, OSError) as error:
            self._refuse(job, [_refusal(error)], now)

    def _know_all_names(self, job: Job) -> None:
        assert job.configuration is not None
        known = {*(pool.name for pool in job.configuration.pools), *(pool.name for pool in self._daemon.pools)}
        unknown = [name for name in job.names if name not in known]
        if unknown:
            raise StartError(catalogue.NO_SUCH_POOL, f"no such pool: {', '.join(unknown)}")

    def _step(self, job: Job, now: float) -> None:
        if job.check is not None:
            self._await_check(job, job.check, now)
        elif job.asked:
            self._await_answers(job, now)
        else:
            self._roll(job, now)

    def _await_check(self, job: Job, check: Check, now: float) -> None:
        if check.findings is None:
            if deadlines.is_late(job.since, now, CHECK_TIMEOUT):
                text = f"the check of the new configuration took longer than {CHECK_TIMEOUT:g} seconds"
                raise StartError(catalogue.CHECK_FAILED, text)
            return
        job.check = None
        findings = [Outcome(finding.pool, finding.text, finding.code) for finding in check.findings]
        if any(not finding.pool for finding in findings):
            self._refuse(job, findings, now)
            return
        # What is one pool's own trouble (its interpreter, most often) is no reason to refuse the others.
        for finding in findings:
            self._log_outcome(finding)
        job.outcomes += findings
        self._plan(job, {finding.pool for finding in findings}, now)

    def _plan(self, job: Job, refused: set[str], now: float) -> None:
        """Open all that has to be opened, then decide what becomes of each pool. StartError refuses everything."""
        assert job.configuration is not None
        wanted = {settings.name: settings for settings in job.configuration.pools}
        chosen = job.names or tuple(dict.fromkeys([*wanted, *(pool.name for pool in self._daemon.pools)]))
        chosen = tuple(name for name in chosen if name not in refused)
        opened = _Opened(*self._listeners_set_free(chosen, wanted))
        try:
            self._open_all(job, chosen, wanted, opened)
            if not job.names:
                self._adopt_global_settings(job.configuration.global_, opened)
        except (StartError, OSError):
            opened.close()
            raise
        opened.keep()
        for pool in opened.new:
            self._daemon.pools.append(pool)
            pool.launch()
            job.starting[pool.name] = pool
            pool.resources.log.notice("new pool", pool.name)
        for name in chosen:
            gone = self._daemon.pool(name)
            if name not in wanted and gone is not None:
                gone.resources.log.notice("this pool is in the configuration no more, it finishes", name)
                job.outcomes.append(Outcome(name, f"pool {name} is closed"))
                gone.finish(now)
                gone.close_status()
                self._daemon.pools.remove(gone)
                self._daemon.leaving.append(gone)
        job.asked_since = now

    def _listeners_set_free(
        self, chosen: tuple[str, ...], wanted: dict[str, PoolSettings]
    ) -> tuple[list[Listener], list[Listener]]:
        """Listeners of pools that go or move, which others may take over: a pool that is renamed, most often.

        Those where the monitor answers are apart: they do not block, and a worker's must.
        """
        mine: list[Listener] = []
        for_status: list[Listener] = []
        for pool in [pool for pool in self._daemon.pools if pool.name in chosen]:
            new, old = wanted.get(pool.name), pool.settings
            if new is None or new.listen != old.listen:
                mine.append(pool.resources.listener)
            if pool.resources.status_listener and (new is None or new.pm_status_listen != old.pm_status_listen):
                for_status.append(pool.resources.status_listener)
        return mine, for_status

    def _open_all(self, job: Job, chosen: tuple[str, ...], wanted: dict[str, PoolSettings], opened: _Opened) -> None:
        for name in chosen:
            settings, pool = wanted.get(name), self._daemon.pool(name)
            if settings is None:
                continue
            if pool is None:
                access_log = open_access_log(settings, self._log)
                if access_log is not None:
                    opened.logs.append(access_log.file)
                error_log = open_pool_log(settings, self._log)
                if error_log is not None:
                    opened.logs.append(error_log)
                try_slow_log(settings)
                listener = opened.listen(settings, self._daemon)
                status_listener = opened.listen_for_status(settings, self._daemon)
                opened.new.append(self._daemon.pool_on(settings, listener, status_listener, access_log, error_log))
                continue
            opened.rolls.append(Roll(pool, settings, self._resources_for(pool, settings, opened)))
        assert job.configuration is not None
        # Whether workers measure what requests cost is decided when their template starts.
        is_watched, was_watched = (
            one.status_listen is not None for one in (job.configuration.global_, self._daemon.settings)
        )
        spared = not job.names and not job.everything and is_watched == was_watched
        for roll in opened.rolls:
            unchanged = spared and roll.settings == roll.pool.settings
            if unchanged and roll.pool.current.templates.ask_files():
                job.asked[roll.pool.name] = roll
            elif not unchanged or roll.pool.trouble or len(roll.pool.current.children):
                job.to_roll.append(roll)  # one that cannot start is tried at once, its files may be mended
            else:
                self._leave_alone(job, roll)

    def _resources_for(self, pool: Pool, settings: PoolSettings, opened: _Opened) -> PoolResources:
        """The listener and log that the new settings want: those that are open, where they stay the same."""
        resources = replace(pool.resources)
        if settings.listen != pool.settings.listen:
            resources.listener = opened.listen(settings, self._daemon)
        if settings.pm_status_listen != pool.settings.pm_status_listen:
            resources.status_listener = opened.listen_for_status(settings, self._daemon)
        if settings.access_log != pool.settings.access_log:
            resources.access_log = open_access_log(settings, self._log)
            if resources.access_log is not None:
                opened.logs.append(resources.access_log.file)
        # A file belongs to the pool's user, so another user is to have another.
        if _owned_log(settings) != _owned_log(pool.settings):
            resources.error_log = open_pool_log(settings, self._log)
            if resources.error_log is not None:
                opened.logs.append(resources.error_log)
        return resources

    def _adopt_global_settings(self, new: GlobalSettings, opened: _Opened) -> None:
        old = self._daemon.settings
        made = None
        if new.status_listen is not None and new.status_listen != old.status_listen:
            made = open_listener(new.status_listen, Terms(), [], self._log, patient=False)
            opened.listeners.append(made)
        sink = self._log.sink
        # Standard error, by -O or on a terminal, stays what it is whatever error_log says.
        if new.error_log != old.error_log and sink is not None and not sink.is_stderr:
            try:
                self._log.write_to(open_error_log(new.error_log))
            except OSError as error:
                text = f"failed to open error_log ({new.error_log}): {error.strerror}"
                raise StartError(catalogue.LOG_NOT_OPENED, text) from error
            sink.close()
        if new.status_listen != old.status_listen:
            if self._daemon.status_listener is not None:
                self._daemon.status_listener.close()
            self._daemon.status_listener = made
        self._log.speak(manner_of(new))
        self._daemon.settings = new
        for resources in (
            *(pool.resources for pool in self._daemon.all_pools()),
            *(roll.resources for roll in opened.rolls),
        ):
            resources.daemon = new

    def _await_answers(self, job: Job, now: float) -> None:
        late = deadlines.is_late(job.asked_since, now, ANSWER_TIMEOUT)
        for name, roll in list(job.asked.items()):
            templates = roll.pool.current.templates
            changed = templates.files_changed
            if changed is None and not late and templates.has_loaded:
                continue
            del job.asked[name]
            if changed == "":
                self._leave_alone(job, roll)
            else:
                self._log.debug(f"reloaded because of {changed or 'a template that does not answer'}", name)
                job.to_roll.append(roll)

    def _leave_alone(self, job: Job, roll: Roll) -> None:
        """A pool that did not change keeps its workers. Its socket is put right all the same."""
        roll.pool.settings = roll.settings
        self._put_socket_right(job, roll)
        job.outcomes.append(Outcome(roll.pool.name, f"pool {roll.pool.name} is unchanged"))

    def _put_socket_right(self, job: Job, roll: Roll) -> None:
        """Owner, mode and backlog once more."""
        resources, terms = roll.pool.resources, Terms.of(roll.settings)
        for fault in [apply_ownership(one, terms) for one in (resources.listener, resources.status_listener) if one]:
            if fault:
                resources.log.error(catalogue.SOCKET_NOT_GIVEN, fault, roll.pool.name)
                text = marked(f"pool {roll.pool.name}: {fault}", catalogue.SOCKET_NOT_GIVEN)
                job.outcomes.append(Outcome(roll.pool.name, text))

    def _roll(self, job: Job, now: float) -> None:
        while job.to_roll and len(job.rolling) < AT_A_TIME:
            roll = job.to_roll.pop(0)
            roll.pool.roll(roll.settings, roll.resources, self._on_rolled(job, roll), now)
            job.rolling[roll.pool.name] = roll.pool
        for name, pool in list(job.starting.items()):
            if not pool.has_been_tried:
                continue
            del job.starting[name]
            if pool.can_serve:
                job.outcomes.append(Outcome(name, f"pool {name} is new"))
            else:
                reason = pool.explanation or Reason(catalogue.PROCESS_MAX, "process.max leaves it no worker")
                job.outcomes.append(Outcome(name, f"[pool {name}] {reason.text}", reason.code))
        if not job.to_roll and not job.rolling and not job.starting:
            self._finish(job, now)

    def _on_rolled(self, job: Job, roll: Roll) -> Callable[[Reason | None], None]:
        name = roll.pool.name

        def done(refusal: Reason | None) -> None:
            if self._job is not job:
                return  # cancelled, and whoever waited has been told
            job.rolling.pop(name, None)
            number = roll.pool.current.number
            if refusal is not None:
                job.outcomes.append(Outcome(name, f"[pool {name}] {refusal.text}", refusal.code))
                job.say(name, f"pool {name}: refused, generation {number} goes on")
                text = f"reload refused, generation {number} goes on: {refusal.first}"
                roll.pool.resources.log.error(catalogue.POOL_RELOAD_REFUSED, text, name)
                return
            self._put_socket_right(job, roll)
            job.say(name, f"pool {name}: generation {number} serves")
            job.outcomes.append(Outcome(name, f"pool {name} is reloaded, generation {number}"))
            roll.pool.resources.log.notice(f"reloaded, generation {number} serves", name)

        return done

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _refuse(self, job: Job, refusals: list[Outcome], now: float) -> None:
        """Nothing has changed."""
        if job.check is not None:
            job.check.close()
            job.check = None
        for refusal in refusals:
            self._log_outcome(refusal)
        job.outcomes = refusals
        self._log.error(catalogue.RELOAD_REFUSED, "reload refused, everything stays as it is")
        for pool in self._daemon.pools:
            if not job.names or pool.name in job.names:
                pool.last_reload = f"refused: {str(refusals[0]).partition(chr(10))[0]}"
        self._close(job, now)

    def _log_outcome(self, outcome: Outcome) -> None:
        assert outcome.code is not None
        first, _, detail = outcome.text.partition("\n")
        self._log.error(outcome.code, first, detail=detail)

    def _finish(self, job: Job, now: float) -> None:
        if not job.refusals:
            self._log.notice("reloaded")
        self._close(job, now)

    def _close(self, job: Job, now: float) -> None:
        first = str(job.refusals[0]).partition("\n")[0] if job.refusals else ""
        self.last_refusal = f"reload refused: {first}" if first else ""
        self._daemon.notifier.ready(self.last_refusal or self._daemon.status())
        job.tell_the_end()
        self._job = None
        following = self._next.pop(True, None) or self._next.pop(False, None)  # the master's goes first
        if following is not None:
            self._begin(following, now)


@dataclass
class _Opened:
    """What a reload has opened before it changed anything. Listeners that are `free` may be taken over."""

    free: list[Listener]
    free_for_status: list[Listener]
    new: list[Pool] = field(default_factory=list)
    rolls: list[Roll] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    taken: list[Listener] = field(default_factory=list)
    logs: list[LogFile] = field(default_factory=list)

    def listen(self, settings: PoolSettings, daemon: Daemon) -> Listener:
        """A listener for these settings: one that is free already, or a new one."""
        return self._listen_at(settings.listen, settings, self.free, daemon)

    def listen_for_status(self, settings: PoolSettings, daemon: Daemon) -> Listener | None:
        """The same for where the monitor answers, if it is to."""
        if settings.pm_status_listen is None:
            return None
        return self._listen_at(settings.pm_status_listen, settings, self.free_for_status, daemon)

    def _listen_at(self, address: Address, settings: PoolSettings, free: list[Listener], daemon: Daemon) -> Listener:
        for one in free:
            if one.address == address:
                listener = Listener(one.socket.dup(), one.address, inherited=True, file=one.file)
                self.taken.append(one)
                break
        else:
            listener = open_listener(address, Terms.of(settings), [], daemon.log, patient=False)
        self.listeners.append(listener)
        return listener

    def keep(self) -> None:
        """It is decided: who took over a listener has the say over its file, and who had it no more."""
        for old in self.taken:
            new = next(one for one in self.listeners if one.address == old.address)
            new.inherited, old.inherited = old.inherited, True

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        for log in self.logs:
            log.close()
        for pool in self.new:
            for generation in pool.generations():
                generation.close()


def _refusal(error: StartError | OSError) -> Outcome:
    """It is about all pools: what could not be opened, a process or descriptor that was not to be had."""
    return Outcome("", str(error), error.code if isinstance(error, StartError) else catalogue.SYSTEM_REFUSED)


def _owned_log(settings: PoolSettings) -> tuple[str | None, ...]:
    return settings.error_log, settings.user, settings.group
