"""The master: boot in the order written here; then wait, reconcile, wait.

Runs in: master, often as root. It imports no application and reads no byte that came from a web client.
Fails by: StartError while it boots. Afterwards by nothing that a pool, a child or a log does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from setproctitle import setproctitle

from pyfpm import kernel
from pyfpm.config.load import control_path
from pyfpm.errors import StartError
from pyfpm.fork import EXIT_INTERNAL
from pyfpm.logs.files import LogFile
from pyfpm.master import permits, processes
from pyfpm.master.accounts import uid_of
from pyfpm.master.control import Control, Request
from pyfpm.master.lifecycle import NEXT, Phase, Wish, pressure
from pyfpm.master.listeners import close_strangers, open_listener, take_inherited
from pyfpm.master.loop import Loop
from pyfpm.master.notify import Notifier
from pyfpm.master.pidfile import hold_pid_file
from pyfpm.master.pools import Pool
from pyfpm.master.privileges import set_limit
from pyfpm.messages import Verb
from pyfpm.scoreboard import IDLE
from pyfpm.signals import read_signals, watch_signals
from pyfpm.status.reports import PoolReport

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from pyfpm.config.directives import Configuration, GlobalSettings, PoolSettings
    from pyfpm.logs.error_log import ErrorLog

TICK = 1.0  # seconds; how late the master may notice what no event told it
STOPPING_TICK = 0.1
NOBODY = -1  # no process has this uid


@dataclass(frozen=True)
class Launch:
    """How this master was started. `announce` is told the exit code that the one who started it should get."""

    config_path: str
    pid_path: str | None
    announce: Callable[[int], None]


def run_master(configuration: Configuration, launch: Launch, log: ErrorLog) -> int:
    """Be the master until it is told to leave. Returns the exit code; raises StartError if it cannot start."""
    with contextlib.ExitStack() as undo:
        inherited = take_inherited(os.environ, os.getpid())
        undo.enter_context(hold_pid_file(launch.pid_path))
        _take_limits(configuration.global_)
        kernel.adopt_orphans()
        setproctitle(f"pyfpm: master process ({launch.config_path})")
        signals = undo.enter_context(watch_signals())
        loop = Loop(time.monotonic)
        undo.callback(loop.close)
        pools = []
        for settings in configuration.pools:
            pools.append(_open_pool(settings, configuration.global_, inherited, log, loop))
            undo.callback(pools[-1].close)
        close_strangers(inherited, log)
        log.notice(f"fpm is running, pid {os.getpid()}")
        return Master(pools, configuration.global_, launch, log, loop, signals).run()


def _take_limits(settings: GlobalSettings) -> None:
    try:
        set_limit(resource.RLIMIT_NOFILE, settings.rlimit_files)
        set_limit(resource.RLIMIT_CORE, settings.rlimit_core)
        if settings.process_priority is not None and os.geteuid() == 0:
            os.setpriority(os.PRIO_PROCESS, 0, settings.process_priority)
    except (OSError, ValueError) as error:
        raise StartError(f"cannot set the master's limits or priority: {error}") from error


def _open_pool(
    settings: PoolSettings, daemon: GlobalSettings, inherited: list[socket.socket], log: ErrorLog, loop: Loop
) -> Pool:
    access_log = None
    if settings.access_log is not None:
        try:
            access_log = LogFile(settings.access_log)
        except OSError as error:
            raise StartError(f"failed to open access log ({settings.access_log}): {error.strerror}") from error
    return Pool(settings, daemon, open_listener(settings, inherited, log), access_log, log, loop)


class Master:
    def __init__(
        self,
        pools: list[Pool],
        settings: GlobalSettings,
        launch: Launch,
        log: ErrorLog,
        loop: Loop,
        signals: socket.socket,
    ) -> None:
        self.pools = pools
        self.phase = Phase.STARTING
        self._since = loop.clock()  # of the phase
        self._settings = settings
        self._launch = launch
        self._log = log
        self._loop = loop
        self._signals = signals
        self._notifier = Notifier()
        self._exit_code = 0
        self._uids: dict[str, int] = {}  # of the pools' users
        self._rotations: list[Request] = []  # finished once the workers have been told
        path = control_path(settings, launch.pid_path)
        self._control = Control(path, loop, log, permit=self._permit, on_request=self._on_request)

    def run(self) -> int:
        """Wait, reconcile, wait, until everybody has left."""
        now = self._since
        with contextlib.closing(self._control), self._loop.watching(self._signals.fileno(), self._on_signals):
            while True:
                self._reconcile(now)
                if self.phase in (Phase.FINISHING, Phase.TERMINATING) and all(pool.is_gone for pool in self.pools):
                    self._log.notice("exiting, bye-bye!")
                    return self._exit_code
                now = self._loop.wait(self._patience(now))

    def _reconcile(self, now: float) -> None:
        for pid, status in processes.reap():
            # What belongs to no pool is an orphan that some application left behind: reaped is all it needs.
            if not any(pool.bury(pid, status, now) for pool in self.pools):
                self._log.debug(f"process {pid}, an orphan of an application, {processes.describe_end(status)}")
        number = pressure(self.phase, now - self._since, self._settings.process_control_timeout)
        for pool in self.pools:
            if number is None:
                pool.reconcile(now)
            else:
                pool.press(number)
        if self.phase is Phase.STARTING:
            self._judge_start(now)
        self._finish_rotations()
        self._control.reconcile(now)

    def _patience(self, now: float) -> float:
        """How long to wait: a tick, or less where something is due before."""
        if self.phase in (Phase.FINISHING, Phase.TERMINATING):
            return STOPPING_TICK
        return max(0.0, min([TICK, *(pool.next_due(now) - now for pool in self.pools)]))

    def _judge_start(self, now: float) -> None:
        """The start has succeeded once each pool has been tried and one of them serves."""
        if not all(pool.is_serving or pool.trouble for pool in self.pools):
            return
        if not any(pool.is_serving for pool in self.pools):
            self._log.alert("no pool can serve, giving up")
            self._exit_code = EXIT_INTERNAL
            self._enter(Wish.TERMINATE, now)
            return
        self._enter(Wish.SERVE, now)
        for pool in self.pools:
            pool.launched = True
            if not pool.is_serving:
                self._log.warning("this pool does not serve yet, it is tried again", pool.name)
        self._log.notice("ready to handle connections")
        self._log.launched()
        self._notifier.ready(self._status())
        self._launch.announce(0)

    def _status(self) -> str:
        failing = [pool.name for pool in self.pools if not pool.is_serving]
        return "Ready to handle connections" + (f"; not serving: {', '.join(failing)}" if failing else "")

    def _enter(self, wish: Wish, now: float) -> bool:
        """Move on as the table has it; False if nothing changes."""
        phase = NEXT[self.phase, wish]
        if phase is self.phase:
            return False
        self.phase, self._since = phase, now
        return True

    def _on_signals(self, now: float) -> None:
        for number in read_signals(self._signals):
            match number:
                case signal.SIGTERM | signal.SIGINT:
                    self._leave(Wish.TERMINATE, "Terminating ...", now)
                case signal.SIGQUIT:
                    self._leave(Wish.FINISH, "Finishing ...", now)
                case signal.SIGUSR1:
                    self._reopen_logs()
                case signal.SIGUSR2 | signal.SIGHUP:
                    self._log.warning(f"{number.name}: this version cannot reload; everything stays as it is")
                case _:  # SIGCHLD: being awake is enough, the next turn reaps
                    pass

    def _leave(self, wish: Wish, words: str, now: float) -> None:
        if self._enter(wish, now):
            self._log.notice(words)
            self._notifier.stopping(words)

    def _reopen_logs(self) -> list[str]:
        """Open all logs anew. Returns what went wrong."""
        faults = []
        try:
            self._log.reopen()
            self._log.notice("error log file re-opened")
        except OSError as error:
            faults.append(f"failed to re-open the error log, the old file stays in use: {error}")
            self._log.error(faults[-1])
        for pool in self.pools:
            try:
                if pool.reopen_access_log():
                    self._log.notice("access log file re-opened", pool.name)
            except OSError as error:
                fault = f"failed to re-open the access log, the old file stays in use: {error}"
                self._log.error(fault, pool.name)
                faults.append(f"[pool {pool.name}] {fault}")
        return faults

    # ── the control socket ──────────────────────────────────────────────────────────────────────────────────────────

    def _permit(self, verb: Verb, pools: tuple[str, ...], everything: bool, uid: int) -> permits.Permit:
        owners = {pool.name: self._owner_of(pool) for pool in self.pools}
        now = permits.Circumstances(self.phase, os.geteuid(), owners)
        return permits.judge(verb, pools, everything, uid, now)

    def _owner_of(self, pool: Pool) -> int:
        """The uid of a pool's processes. Looked up once: a question must not make the master wait for a directory."""
        user = pool.settings.user
        if user is None or os.geteuid() != 0:
            return os.geteuid()
        if user not in self._uids:
            try:
                self._uids[user] = uid_of(user)
            except StartError:  # deleted since the start
                return NOBODY
        return self._uids[user]

    def _on_request(self, request: Request) -> None:
        """What has been asked by somebody who may. Whoever waits for the end of the daemon sees it as it comes."""
        match request.verb:
            case Verb.STOP:
                self._leave(Wish.TERMINATE, "Terminating ...", request.since)
                request.progress(self.phase.value)
            case Verb.QUIT:
                self._leave(Wish.FINISH, "Finishing ...", request.since)
                request.progress(self.phase.value)
            case Verb.LOGROTATE:
                self._rotate(request)
            case Verb.STATUS:
                chosen = [pool for pool in self.pools if not request.pools or pool.name in request.pools]
                request.answer([_report(pool).line() for pool in chosen])
                request.finish(0)
            case Verb.PING:
                request.finish(0, self._status())
            case Verb.RELOAD | Verb.RESTART | Verb.UPGRADE:
                request.finish(1, f"{request.verb.name.lower()} is not built yet")
            case _:
                assert_never(request.verb)

    def _rotate(self, request: Request) -> None:
        faults = self._reopen_logs()
        for fault in faults:
            request.progress(fault)
        if faults:
            request.finish(1, "some logs go on in their old files")
        else:
            self._rotations.append(request)

    def _finish_rotations(self) -> None:
        """The workers have their new descriptors in their mailboxes by now, and look there before their next line."""
        for request in self._rotations:
            request.finish(0, "logs re-opened")
        self._rotations.clear()


def _report(pool: Pool) -> PoolReport:
    readings = [pool._scoreboard.read(child.slot) for child in pool.children if child.ready]
    idle = sum(reading.stage == IDLE for reading in readings)
    return PoolReport(
        pool=pool.name,
        pm=pool.settings.pm,
        state="serving" if pool.is_serving else "failing" if pool.trouble else "starting",
        generation=pool._generation,
        idle=idle,
        busy=len(readings) - idle,
        total=len(pool.children),
        max=pool.settings.pm_max_children,
        requests=sum(reading.served for reading in readings),
        trouble=pool.trouble,
    )
