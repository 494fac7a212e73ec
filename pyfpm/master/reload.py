"""Reload: the new configuration beside the old, then pool by pool a new generation beside the old.

Runs in: master.
Fails by: refusing; whatever is refused, the old goes on, and whoever asked is told why.

A job goes through these steps, each of which may end it: read the text; let a child process check what start would
refuse; open what has to be opened; then roll the pools. Up to then nothing has changed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from pyfpm import catalogue
from pyfpm.catalogue import marked
from pyfpm.config.load import load
from pyfpm.errors import ConfigError, StartError
from pyfpm.master import deadlines
from pyfpm.master.check import Check
from pyfpm.master.daemon import Daemon, manner_of
from pyfpm.master.job import REFUSED, Job, Outcome, Roll, note_of
from pyfpm.master.listeners import Terms, apply_ownership
from pyfpm.master.openings import Opened, open_all
from pyfpm.master.reason import Reason

if TYPE_CHECKING:
    from pyfpm.config.directives import GlobalSettings
    from pyfpm.master.control import Request
    from pyfpm.master.pools import Pool

CHECK_TIMEOUT = 30.0  # seconds; interpreters have 10 to answer, and are asked side by side
ANSWER_TIMEOUT = 5.0  # a template looks at a few thousand files in 10 ms
OUR_FAULT = "the reload met a fault in pyfpm itself"
NOT_FOUND = "pid or control has changed, which takes a restart; until then commands may not find this master"
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

    @property
    def rolls_to_come(self) -> list[Roll]:
        """What is open for pools that have not been given it yet."""
        return [] if self._job is None else self._job.rolls_to_come

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
            job.drop()
        self._job = None
        self._next.clear()

    def bury(self, pid: int) -> bool:
        """Whether a process that has ended was the check of a configuration; what it found came by its pipe."""
        return self._job is not None and self._job.check is not None and self._job.check.pid == pid

    def reconcile(self, now: float) -> None:
        """Take the next step of the job, if it can be taken."""
        if self._job is not None:
            with self._refusing(self._job, now):
                self._step(self._job, now)

    @contextlib.contextmanager
    def _refusing(self, job: Job, now: float) -> Iterator[None]:
        """Whatever is raised refuses the job; what should not have been raised is then for others to report."""
        try:
            yield
        except ConfigError as error:
            self._refuse(job, [Outcome("", str(problem), problem.code) for problem in error.problems], now)
        except StartError as error:
            self._refuse(job, [Outcome("", str(error), error.code)], now)
        except OSError as error:  # a process or a descriptor was not to be had
            self._refuse(job, [Outcome("", str(error), catalogue.SYSTEM_REFUSED)], now)
        except Exception:
            if self._job is job:  # and not one that has come after it
                self._refuse(job, [Outcome("", OUR_FAULT, catalogue.OUR_FAULT)], now)
            raise

    # ── the steps ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, job: Job, now: float) -> None:
        self._job = job
        job.since = now
        self._log.notice("Reloading in progress ...")
        self._daemon.notifier.reloading(time.monotonic_ns() // 1000)
        launch = self._daemon.launch
        with self._refusing(job, now):
            job.configuration = configuration = load(
                launch.config_path, prefix=launch.prefix, environ=os.environ, as_root=os.geteuid() == 0, pid=launch.pid
            )
            self._know_all_names(job)
            looked_at = [pool for pool in configuration.pools if not job.names or pool.name in job.names]
            job.check = Check(
                self._daemon.loop, configuration._replace(pools=tuple(looked_at)), allow_root=launch.allow_root
            )

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
        refused = {finding.pool for finding in findings}
        job.outcomes += findings
        self._plan(job, refused, now)
        self._note_refusals(refused, findings)

    def _plan(self, job: Job, refused: set[str], now: float) -> None:
        """Open all that has to be opened, then decide what becomes of each pool. StartError refuses everything."""
        assert job.configuration is not None
        new = job.configuration.global_
        wanted = [settings.name for settings in job.configuration.pools]
        chosen = set(job.names or [*wanted, *(pool.name for pool in self._daemon.pools)]) - refused
        opened = open_all(self._daemon, job.configuration, chosen, is_whole=not job.names)
        spared = not job.names and not job.everything and not self._changes_measuring(new)
        if not job.names:
            self._adopt_global_settings(job, new, opened)
        for pool in opened.new:
            self._take_in(job, pool)
        for gone in [pool for pool in self._daemon.pools if pool.name in chosen and pool.name not in wanted]:
            self._let_go(job, gone, now)
        self._decide_rolls(job, opened.rolls, spared)
        job.asked_since = now

    def _changes_measuring(self, new: GlobalSettings) -> bool:
        """Whether workers measure what requests cost is decided when their template starts."""
        return (new.status_listen is None) != (self._daemon.settings.status_listen is None)

    def _adopt_global_settings(self, job: Job, new: GlobalSettings, opened: Opened) -> None:
        daemon, old = self._daemon, self._daemon.settings
        if (new.pid, new.control) != (old.pid, old.control):
            self._log.warning(catalogue.MASTER_NOT_FOUND, NOT_FOUND)
            job.outcomes.append(Outcome("", marked(NOT_FOUND, catalogue.MASTER_NOT_FOUND)))
        if new.status_listen != old.status_listen:
            if daemon.status_listener is not None:
                daemon.status_listener.close()
            daemon.status_listener = opened.status_listener
        if opened.error_log is not None:
            before = self._log.sink
            self._log.write_to(opened.error_log)
            if before is not None:
                before.close()
        self._log.speak(manner_of(new))
        daemon.settings = new
        every = [*(pool.resources for pool in daemon.all_pools()), *(roll.resources for roll in opened.rolls)]
        for resources in every:
            resources.daemon = new

    def _take_in(self, job: Job, pool: Pool) -> None:
        self._daemon.pools.append(pool)
        pool.launch()
        job.starting[pool.name] = pool
        pool.resources.log.notice("new pool", pool.name)

    def _let_go(self, job: Job, pool: Pool, now: float) -> None:
        pool.resources.log.notice("this pool is in the configuration no more, it finishes", pool.name)
        job.outcomes.append(Outcome(pool.name, f"pool {pool.name} is closed"))
        pool.leave(now)
        self._daemon.pools.remove(pool)
        self._daemon.leaving.append(pool)

    def _decide_rolls(self, job: Job, rolls: list[Roll], spared: bool) -> None:
        """Which pools get a new generation at once, and which only if their files have changed, if they are spared."""
        for roll in rolls:
            pool = roll.pool
            unchanged = spared and (roll.settings, roll.resources) == (pool.settings, pool.resources)
            if unchanged and pool.ask_files():
                job.asked[pool.name] = roll
            elif not unchanged or pool.trouble or len(pool.current.children):
                job.to_roll.append(roll)  # one that cannot start is tried at once, its files may be mended
            else:
                self._leave_alone(job, roll)

    def _await_answers(self, job: Job, now: float) -> None:
        late = deadlines.is_late(job.asked_since, now, ANSWER_TIMEOUT)
        for name, roll in list(job.asked.items()):
            changed = roll.pool.files_changed
            if changed is None and not late and roll.pool.current.has_loaded:
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
            roll = job.to_roll[0]
            roll.pool.roll(roll.settings, roll.resources, self._on_rolled(job, roll), now)
            job.rolling[roll.pool.name] = job.to_roll.pop(0).pool
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
        """Nothing has changed, or nothing more than what was given to the pools already."""
        job.drop()
        for refusal in refusals:
            self._log_outcome(refusal)
        job.outcomes = refusals
        self._log.error(catalogue.RELOAD_REFUSED, "reload refused, everything stays as it is")
        self._note_refusals(job.names or [pool.name for pool in self._daemon.pools], refusals)
        self._close(job, now)

    def _note_refusals(self, names: Collection[str], refusals: list[Outcome]) -> None:
        for pool in self._daemon.pools:
            if pool.name in names:
                pool.note_reload(note_of(pool.name, refusals))

    def _log_outcome(self, outcome: Outcome) -> None:
        assert outcome.code is not None
        first, _, detail = outcome.text.partition("\n")
        self._log.error(outcome.code, first, detail=detail)

    def _finish(self, job: Job, now: float) -> None:
        if not job.refusals:
            self._log.notice("reloaded")
        self._close(job, now)

    def _close(self, job: Job, now: float) -> None:
        self._job = None  # first: it is over, whatever becomes of telling it
        first = str(job.refusals[0]).partition("\n")[0] if job.refusals else ""
        self.last_refusal = f"reload refused: {first}" if first else ""
        self._daemon.notifier.ready(self.last_refusal or self._daemon.status())
        job.tell_the_end()
        following = self._next.pop(True, None) or self._next.pop(False, None)  # the master's goes first
        if following is not None:
            self._begin(following, now)
