"""The master: boot in the order written here; then wait, reconcile, wait.

Runs in: master, often as root. It imports no application and reads no byte that came from a web client.
Fails by: StartError while it boots. Afterwards by nothing that a pool, a child or a log does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from setproctitle import setproctitle

from pyfpm import catalogue, kernel
from pyfpm.catalogue import marked
from pyfpm.config.load import control_path
from pyfpm.errors import StartError
from pyfpm.fork import EXIT_INTERNAL
from pyfpm.master import processes
from pyfpm.master.control import Control
from pyfpm.master.daemon import Daemon, Launch
from pyfpm.master.guard import guard
from pyfpm.master.legacy import Legacy, going_on
from pyfpm.master.lifecycle import NEXT, Phase, Wish, pressure
from pyfpm.master.listeners import close_strangers, give_back, open_listener, take_inherited
from pyfpm.master.loop import Loop
from pyfpm.master.notify import Notifier
from pyfpm.master.oom import OomKills
from pyfpm.master.pidfile import MASTER_TITLE, hold_pid_file
from pyfpm.master.privileges import set_limit
from pyfpm.master.reload import Reloads
from pyfpm.master.resources import Doors, reopen_logs
from pyfpm.master.upgrade import Upgrade, let_signals_in
from pyfpm.master.verbs import Verbs
from pyfpm.master.weigher import Weigher
from pyfpm.signals import read_signals, watch_signals

if TYPE_CHECKING:
    from pyfpm.config.directives import Configuration, GlobalSettings
    from pyfpm.logs.error_log import ErrorLog

__all__ = ["Launch", "run_master"]

TICK = 1.0  # seconds; how late the master may notice what no event told it
STOPPING_TICK = 0.1
STANDARD_ERROR = 2
NOT_YET = "this pool does not serve yet, it is tried again"


def run_master(configuration: Configuration, launch: Launch, log: ErrorLog) -> int:
    """Be the master until it is told to leave. Returns the exit code; raises StartError if it cannot start."""
    with contextlib.ExitStack() as undo:
        legacy = Legacy.take(os.environ)
        inherited = legacy.sockets() if legacy else take_inherited(os.environ, os.getpid())
        _keep_to_ourselves()
        pid_file = undo.enter_context(hold_pid_file(configuration.global_.pid, legacy.pid_file if legacy else None))
        with going_on(legacy, log, "they stay as they are"):
            _take_limits(configuration.global_)
        kernel.adopt_orphans()
        setproctitle(f"{MASTER_TITLE} ({launch.config_path})")
        signals = undo.enter_context(watch_signals())
        let_signals_in()
        loop = Loop(time.monotonic, guard(log))
        undo.callback(loop.close)
        daemon = Daemon(configuration.global_, launch, log, loop, Notifier())
        undo.callback(daemon.close)
        listen = partial(open_listener, inherited=inherited, log=log)
        doors = Doors(listen, listen, partial(give_back, inherited=inherited))
        if legacy is None:
            daemon.open_all(configuration.pools, inherited, doors)
        else:
            legacy.open_all(daemon, configuration.pools, inherited, doors)
            legacy.take_over(daemon)
        close_strangers(inherited, log)
        log.notice(f"fpm is running, pid {os.getpid()}")
        return Master(daemon, signals, pid_file, legacy).run()


def _keep_to_ourselves() -> None:
    """No pool inherits what whoever started us had left open (a shell's descriptors, most often)."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > STANDARD_ERROR:
            with contextlib.suppress(OSError):  # that of the listing is closed by now
                os.set_inheritable(int(name), False)


def _take_limits(settings: GlobalSettings) -> None:
    try:
        set_limit(resource.RLIMIT_NOFILE, settings.rlimit_files)
        set_limit(resource.RLIMIT_CORE, settings.rlimit_core)
        if settings.process_priority is not None and os.geteuid() == 0:
            os.setpriority(os.PRIO_PROCESS, 0, settings.process_priority)
    except (OSError, ValueError) as error:
        raise StartError(catalogue.MASTER_LIMITS, f"cannot set the master's limits or priority: {error}") from error


class Master:
    """The loop, the phases and the signals; what is looked after is in `daemon`."""

    def __init__(self, daemon: Daemon, signals: socket.socket, pid_file: int | None, legacy: Legacy | None) -> None:
        self.phase = Phase.STARTING
        self._daemon = daemon
        self._log = daemon.log
        self._loop = daemon.loop
        self._since = daemon.loop.clock()  # of the phase
        self._signals = signals
        self._legacy = legacy
        self._exit_code = 0
        self._guarded = guard(daemon.log)
        self._oom_kills = OomKills()
        self._weigher = Weigher(daemon.loop)
        self._reloads = Reloads(daemon)
        self._upgrade = Upgrade(daemon, pid_file)
        self._verbs = Verbs(
            daemon,
            self._reloads,
            self._upgrade,
            phase=lambda: self.phase,
            leave=self._leave,
            reopen_logs=self._reopen_logs,
        )
        inherited = legacy.control if legacy else None
        self._control = Control(
            control_path(daemon.settings, daemon.settings.pid),
            daemon.loop,
            daemon.log,
            permit=self._verbs.permit,
            on_request=self._verbs.serve,
            inherited=None if inherited is None else socket.socket(fileno=inherited),
        )

    def run(self) -> int:
        """Wait, reconcile, wait, until everybody has left."""
        now = self._since
        with contextlib.closing(self._control), self._loop.watching(self._signals.fileno(), self._on_signals):
            while True:
                with self._guarded():
                    self._reconcile(now)
                if self._is_leaving and all(pool.is_gone for pool in self._daemon.all_pools()):
                    self._log.notice("exiting, bye-bye!")
                    return self._exit_code
                now = self._loop.wait(self._patience(now))

    @property
    def _is_leaving(self) -> bool:
        return self.phase in (Phase.FINISHING, Phase.TERMINATING)

    def _reconcile(self, now: float) -> None:
        # Before anybody is buried: what ends now has no failures that anything would be tried again for.
        if self.phase is Phase.TERMINATING:
            grace = self._daemon.settings.process_control_timeout
            number = pressure(self.phase, now - self._since, grace) or signal.SIGTERM
            for pool in self._daemon.all_pools():
                pool.terminate(number, now)
        self._oom_kills.look(now)
        for end in processes.reap(self._oom_kills, now, lambda pid: self._hear_newborns(pid, now)):
            self._bury(end, now)
        # Nobody is ordered any more when the next image is to take over: it would not know who was not yet born.
        makes_way = self._upgrade.is_due and not self._reloads.is_busy
        for pool in self._daemon.all_pools():
            with self._guarded():
                pool.reconcile(now, 0 if makes_way else self._daemon.room())
        if self.phase is Phase.STARTING:
            self._judge_start(now)
        elif self.phase is Phase.RUNNING:
            self._reloads.reconcile(now)
            self._daemon.bury_left_pools()
            if not self._reloads.is_busy:
                self._daemon.notifier.status(self._reloads.last_refusal or self._daemon.status())
            self._upgrade.reconcile(now, is_quiet=not self._reloads.is_busy and not self._daemon.leaving)
            if self._upgrade.may_replace:
                self._upgrade.replace_master(self._control)
        self._weigher.weigh(self._daemon.all_pools(), now)
        self._daemon.keep_monitor(now)
        self._verbs.reconcile()
        self._control.reconcile(now)

    def _hear_newborns(self, pid: int, now: float) -> None:
        """A process that nobody knows has ended: perhaps a worker whose first word is still unread.

        It can be believed only before it is reaped: no later look could tell whose child it was.
        """
        pools = self._daemon.all_pools()
        if any(pool.has_worker(pid) for pool in pools):
            return
        for pool in pools:
            with self._guarded():
                pool.hear_newborns(now)

    def _bury(self, end: processes.End, now: float) -> None:
        if any(pool.bury(end, now) for pool in self._daemon.all_pools()):
            return
        if self._daemon.monitor.bury(end, now) or self._weigher.bury(end.pid):
            return
        if self._upgrade.bury(end.pid, end.status) or self._reloads.bury(end.pid):
            return
        # What belongs to no pool is an orphan that some application left behind: reaped is all it needs.
        self._log.debug(f"process {end.pid}, an orphan of an application, {processes.describe_end(end)}")

    def _patience(self, now: float) -> float:
        """How long to wait: a tick, or less where something is due before."""
        if self._is_leaving or self._reloads.is_busy:
            return STOPPING_TICK
        due = [self._daemon.monitor.next_due(now), *(pool.next_due(now) for pool in self._daemon.all_pools())]
        return max(0.0, min(TICK, min(due) - now))

    def _judge_start(self, now: float) -> None:
        """The start has succeeded once each pool has been tried and one of them serves.

        After an upgrade, whether one serves or not: what ran before goes on.
        """
        pools = self._daemon.pools
        if not all(pool.has_been_tried for pool in pools):
            return
        if self._legacy is None and not any(pool.can_serve for pool in pools):
            self._log.alert(catalogue.NOTHING_SERVES, "no pool can serve, giving up")
            self._exit_code = EXIT_INTERNAL
            self._enter(Wish.TERMINATE, now)
            return
        self._enter(Wish.SERVE, now)
        for pool in pools:
            pool.launch()
            if not pool.can_serve:
                going_on = "; the workers from before the upgrade go on" if pool.has_legacy else ""
                pool.resources.log.warning(catalogue.NOT_SERVING_YET, f"{NOT_YET}{going_on}", pool.name)
        self._log.notice("ready to handle connections")
        self._log.launched()
        self._daemon.notifier.ready(self._daemon.status())
        self._daemon.launch.announce(0)
        if self._legacy is not None:
            self._legacy.announce(self._control, [pool.name for pool in pools if not pool.can_serve], now)

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
                    self._leave(Wish.TERMINATE, now)
                case signal.SIGQUIT:
                    self._leave(Wish.FINISH, now)
                case signal.SIGUSR1:
                    self._reopen_logs()
                case signal.SIGUSR2 | signal.SIGHUP:
                    self._reload(now)
                case _:  # SIGCHLD: being awake is enough, the next turn reaps
                    pass

    def _reload(self, now: float) -> None:
        if self.phase is Phase.RUNNING:
            self._reloads.request(now)
        else:
            self._log.warning(catalogue.RELOAD_UNTIMELY, f"no reload while the daemon is {self.phase.value}")

    def _leave(self, wish: Wish, now: float) -> None:
        if not self._enter(wish, now):
            return
        words = "Terminating ..." if wish is Wish.TERMINATE else "Finishing ..."
        self._log.notice(words)
        self._daemon.notifier.stopping(words)
        self._reloads.cancel()
        if wish is Wish.FINISH:
            for pool in self._daemon.all_pools():
                pool.finish(now)

    def _reopen_logs(self) -> list[str]:
        """Open all logs anew. Returns what went wrong."""
        faults = []
        try:
            self._log.reopen()
            self._log.notice("error log file re-opened")
        except OSError as error:
            fault = f"failed to re-open the error log, the old file stays in use: {error}"
            self._log.error(catalogue.LOG_NOT_REOPENED, fault)
            faults.append(marked(fault, catalogue.LOG_NOT_REOPENED))
        opened = [(pool.name, one) for pool in self._daemon.all_pools() for one in pool.all_resources()]
        opened += [(roll.pool.name, roll.resources) for roll in self._reloads.rolls_to_come]
        return faults + reopen_logs(opened)
