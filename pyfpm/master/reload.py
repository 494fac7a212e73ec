"""Reload: the new configuration beside the old, then pool by pool a new generation beside the old.

Runs in: master.
Fails by: refusing; whatever is refused, the old goes on, and whoever asked is told why.

A job goes through these steps, each of which may end it: read the text; let a child process check what start would
refuse (it asks interpreters and accounts, which may take seconds, and the master must not wait); open what has to be
opened; then roll the pools. Up to then nothing has changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pyfpm.config.load import load
from pyfpm.errors import ConfigError, StartError
from pyfpm.fork import fork_child
from pyfpm.logs.error_log import open_sink
from pyfpm.master import deadlines
from pyfpm.master.daemon import Daemon, manner_of, open_access_log, open_pool_log
from pyfpm.master.listeners import Listener, apply_ownership, open_listener
from pyfpm.master.pools import close_unshared
from pyfpm.master.preflight import examine

if TYPE_CHECKING:
    from pyfpm.config.directives import Configuration, GlobalSettings, PoolSettings
    from pyfpm.logs.files import LogFile
    from pyfpm.master.control import Request
    from pyfpm.master.generation import Common
    from pyfpm.master.pools import Pool

CHECK_TIMEOUT = 30.0  # seconds; an interpreter has 10 to answer, and several may be asked
ANSWER_TIMEOUT = 5.0  # a template looks at a few thousand files in 10 ms
AT_A_TIME = 2  # pools that load at once: more would only take turns on the processors
REFUSED = 1


@dataclass
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
    refusals: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        for request in self.waiting:
            request.progress(text)


@dataclass(frozen=True)
class Roll:
    """A pool that is to get a new generation, with these settings, listener and log."""

    pool: Pool
    settings: PoolSettings
    common: Common


class Check:
    """A child process that looks at a configuration as `pyfpm -t` would, and tells by a pipe what it finds."""

    def __init__(self, daemon: Daemon, configuration: Configuration) -> None:
        self._loop = daemon.loop
        self.problems: list[str] | None = None  # known when it is over
        self._text = b""
        self._reader, writer = os.pipe()

        def life() -> None:
            allow_root, as_root = daemon.launch.allow_root, os.geteuid() == 0
            found = examine(configuration, as_root=as_root, allow_root=allow_root)
            os.write(writer, b"\0".join([b"checked", *(str(problem).encode() for problem in found)])[:65536])

        try:
            self.pid = fork_child(life)
        finally:
            os.close(writer)
        os.set_blocking(self._reader, False)
        self._loop.watch(self._reader, self._on_readable)

    def close(self) -> None:
        if self._reader >= 0:
            self._loop.forget(self._reader)
            os.close(self._reader)
            self._reader = -1

    def _on_readable(self, _now: float) -> None:
        text = os.read(self._reader, 65536)
        self._text += text
        if text:
            return
        self.close()
        verdict, *problems = self._text.decode("utf-8", "replace").split("\0")
        self.problems = problems if verdict == "checked" else ["the check of the new configuration failed"]


class Reloads:
    """The reload under way, and the one after it. `finished` is called with a status line for the service manager."""

    def __init__(self, daemon: Daemon) -> None:
        self.last_refusal = ""  # why the last one was refused, if it was
        self._daemon = daemon
        self._log = daemon.log
        self._job: Job | None = None
        self._next: Job | None = None

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
        elif self._next is None:
            self._next = job
        else:
            self._next = _merged(self._next, job)

    def cancel(self) -> None:
        """The daemon is stopping."""
        for job in (self._job, self._next):
            if job is not None:
                for request in job.waiting:
                    request.finish(REFUSED, "the daemon is stopping")
                if job.check is not None:
                    job.check.close()
                for roll in (*job.asked.values(), *job.to_roll):
                    close_unshared(roll.common, roll.pool.common)
        self._job = self._next = None

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
        except StartError as error:
            self._refuse(job, [str(error)], now)

    # ── the steps ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, job: Job, now: float) -> None:
        self._job = job
        job.since = now
        self._log.notice("Reloading in progress ...")
        self._daemon.notifier.reloading(time.monotonic_ns() // 1000)
        launch = self._daemon.launch
        try:
            job.configuration = load(
                launch.config_path, prefix=launch.prefix, environ=os.environ, as_root=os.geteuid() == 0
            )
            job.check = Check(self._daemon, job.configuration)
        except ConfigError as error:
            self._refuse(job, [str(problem) for problem in error.problems], now)
        except OSError as error:
            self._refuse(job, [f"cannot check the new configuration: {error}"], now)

    def _step(self, job: Job, now: float) -> None:
        if job.check is not None:
            self._await_check(job, job.check, now)
        elif job.asked:
            self._await_answers(job, now)
        else:
            self._roll(job, now)

    def _await_check(self, job: Job, check: Check, now: float) -> None:
        if check.problems is None:
            if deadlines.is_late(job.since, now, CHECK_TIMEOUT):
                self._refuse(
                    job, [f"the check of the new configuration took longer than {CHECK_TIMEOUT:g} seconds"], now
                )
            return
        job.check = None
        if check.problems:
            self._refuse(job, check.problems, now)
            return
        self._plan(job, now)

    def _plan(self, job: Job, now: float) -> None:
        """Open all that has to be opened, then decide what becomes of each pool. StartError refuses everything."""
        assert job.configuration is not None
        wanted = {settings.name: settings for settings in job.configuration.pools}
        unknown = [name for name in job.names if name not in wanted and self._daemon.pool(name) is None]
        if unknown:
            raise StartError(f"no such pool: {', '.join(unknown)}")
        chosen = job.names or tuple(dict.fromkeys([*wanted, *(pool.name for pool in self._daemon.pools)]))
        opened = _Opened()
        try:
            self._open_all(job, chosen, wanted, opened)
            if not job.names:
                self._adopt_global_settings(job.configuration.global_, opened)
        except StartError:
            opened.close()
            raise
        for pool in opened.new:
            self._daemon.pools.append(pool)
            pool.launch()
            job.starting[pool.name] = pool
            pool.common.log.notice("new pool", pool.name)
        for name in chosen:
            gone = self._daemon.pool(name)
            if name not in wanted and gone is not None:
                gone.common.log.notice("this pool is in the configuration no more, it finishes", name)
                job.done.append(f"pool {name} is closed")
                gone.finish(now)
                self._daemon.pools.remove(gone)
                self._daemon.leaving.append(gone)
        job.asked_since = now

    def _open_all(self, job: Job, chosen: tuple[str, ...], wanted: dict[str, PoolSettings], opened: _Opened) -> None:
        for name in chosen:
            settings, pool = wanted.get(name), self._daemon.pool(name)
            if settings is None:
                continue
            if pool is None:
                opened.new.append(self._daemon.open_pool(settings, []))
                continue
            opened.rolls.append(Roll(pool, settings, self._common_for(pool, settings, opened)))
        for roll in opened.rolls:
            unchanged = roll.settings == roll.pool.settings and not job.names and not job.everything
            if unchanged and roll.pool.current.templates.ask_files():
                job.asked[roll.pool.name] = roll
            elif not unchanged or roll.pool.trouble or len(roll.pool.current.children):
                job.to_roll.append(roll)  # one that cannot start is tried at once, its files may be mended
            else:
                self._leave_alone(job, roll)

    def _common_for(self, pool: Pool, settings: PoolSettings, opened: _Opened) -> Common:
        """The listener and log that the new settings want: those that are open, where they stay the same."""
        common = replace(pool.common)
        if settings.listen != pool.settings.listen:
            common.listener = open_listener(settings, [], self._log)
            opened.listeners.append(common.listener)
        if settings.access_log != pool.settings.access_log:
            common.access_log = open_access_log(settings)
            if common.access_log is not None:
                opened.logs.append(common.access_log.file)
        # A file belongs to the pool's user, so another user is to have another.
        if _owned_log(settings) != _owned_log(pool.settings):
            common.error_log = open_pool_log(settings)
            if common.error_log is not None:
                opened.logs.append(common.error_log)
        return common

    def _adopt_global_settings(self, new: GlobalSettings, opened: _Opened) -> None:
        old = self._daemon.settings
        sink = self._log.sink
        if new.error_log != old.error_log and sink is not None:
            try:
                self._log.write_to(open_sink(new.error_log))
            except OSError as error:
                raise StartError(f"failed to open error_log ({new.error_log}): {error.strerror}") from error
            sink.close()
        self._log.speak(manner_of(new))
        self._daemon.settings = new
        for common in (*(pool.common for pool in self._daemon.all_pools()), *(roll.common for roll in opened.rolls)):
            common.daemon = new

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
        apply_ownership(roll.pool.common.listener, roll.settings, self._log)
        job.done.append(f"pool {roll.pool.name} is unchanged")

    def _roll(self, job: Job, now: float) -> None:
        while job.to_roll and len(job.rolling) < AT_A_TIME:
            roll = job.to_roll.pop(0)
            job.rolling[roll.pool.name] = roll.pool
            roll.pool.roll(roll.settings, roll.common, self._on_rolled(job, roll), now)
        for name, pool in list(job.starting.items()):
            if pool.can_serve or pool.trouble:
                del job.starting[name]
                if pool.trouble:
                    job.refusals.append(f"[pool {name}] {pool.explanation}")
                else:
                    job.done.append(f"pool {name} is new")
        if not job.to_roll and not job.rolling and not job.starting:
            self._finish(job, now)

    def _on_rolled(self, job: Job, roll: Roll) -> Callable[[str], None]:
        name = roll.pool.name

        def done(refusal: str) -> None:
            if self._job is not job:
                return  # cancelled, and whoever waited has been told
            job.rolling.pop(name, None)
            if refusal:
                job.refusals.append(f"[pool {name}] {refusal}")
                job.say(f"pool {name}: refused, generation {roll.pool.current.number} goes on")
                roll.pool.common.log.error(
                    f"reload refused, generation {roll.pool.current.number} goes on: {refusal.partition(chr(10))[0]}",
                    name,
                )
                return
            apply_ownership(roll.pool.common.listener, roll.settings, self._log)
            job.say(f"pool {name}: generation {roll.pool.current.number} serves")
            job.done.append(f"pool {name} is reloaded, generation {roll.pool.current.number}")
            roll.pool.common.log.notice(f"reloaded, generation {roll.pool.current.number} serves", name)

        return done

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _refuse(self, job: Job, problems: list[str], now: float) -> None:
        """Nothing has changed."""
        if job.check is not None:
            job.check.close()
            job.check = None
        for problem in problems:
            first, _, detail = problem.partition("\n")
            self._log.error(first, detail=detail)
        job.refusals = problems
        self._log.error("reload refused, everything stays as it is")
        self._close(job, now)

    def _finish(self, job: Job, now: float) -> None:
        if not job.refusals:
            self._log.notice("reloaded")
        self._close(job, now)

    def _close(self, job: Job, now: float) -> None:
        first = job.refusals[0].partition("\n")[0] if job.refusals else ""
        self.last_refusal = f"reload refused: {first}" if first else ""
        self._daemon.notifier.ready(self.last_refusal or self._daemon.status())
        for request in job.waiting:
            request.answer(job.done)
            if job.refusals:
                request.finish(REFUSED, "\n".join(job.refusals))
            else:
                request.finish(0, "reloaded")
        following, self._job, self._next = self._next, None, None
        if following is not None:
            self._begin(following, now)


@dataclass
class _Opened:
    """What a reload has opened before it changed anything."""

    new: list[Pool] = field(default_factory=list)
    rolls: list[Roll] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    logs: list[LogFile] = field(default_factory=list)

    def close(self) -> None:
        for pool in self.new:
            pool.close()
        for listener in self.listeners:
            listener.close()
        for log in self.logs:
            log.close()


def _owned_log(settings: PoolSettings) -> tuple[str | None, ...]:
    return settings.error_log, settings.user, settings.group


def _merged(one: Job, other: Job) -> Job:
    """A job that does what both would; about all pools if one of them is."""
    names = tuple(dict.fromkeys(one.names + other.names)) if one.names and other.names else ()
    return Job(names, one.everything or other.everything, one.waiting + other.waiting, one.since)
