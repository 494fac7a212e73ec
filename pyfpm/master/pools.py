"""A pool: its listener, its template, its workers, and the number wanted.

Runs in: master.
Fails by: nothing that a pool does reaches the master: it is logged, and tried again with patience.

Events (a message, an end, a signal) only change what is known. `reconcile` compares that with what is wanted, once a
turn, and acts; so an event that got lost costs a turn and never a worker.
"""

from __future__ import annotations

import errno
import math
import os
import signal
from typing import TYPE_CHECKING

from pyfpm import messages
from pyfpm.logs.error_log import Level
from pyfpm.master import deadlines, processes, sizing
from pyfpm.master.backoff import YOUNG, died_young
from pyfpm.master.children import Child, Children, Template
from pyfpm.master.dialogue import Dialogue
from pyfpm.master.failures import Failures
from pyfpm.master.orders import order_worker
from pyfpm.master.spawn import start_template
from pyfpm.scoreboard import IDLE, Scoreboard

if TYPE_CHECKING:
    from pyfpm.config.directives import GlobalSettings, PoolSettings
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.logs.files import LogFile
    from pyfpm.master.listeners import Listener
    from pyfpm.master.loop import Loop

RETRY_ORDER = 0.05  # seconds; a template that is busy with its orders is asked again then


class Pool:
    def __init__(
        self,
        settings: PoolSettings,
        daemon: GlobalSettings,
        listener: Listener,
        access_log: LogFile | None,
        log: ErrorLog,
        loop: Loop,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.children = Children(settings.pm_max_children)
        self.launched = False  # from then on the birth of a worker is news
        self._leaving = False
        self._template: Template | None = None
        self._template_failures = Failures(self.name, log)
        self._worker_failures = Failures(self.name, log)
        self._preload = settings.preload
        self._generation = 1
        self._listener = listener
        self._scoreboard = Scoreboard.create(self.name, settings.pm_max_children)
        self._access_log = access_log
        self._access_log_opened = 1
        self._dialogue = Dialogue(settings, daemon, log, loop)
        self._log = log

    # ── what the master asks ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_serving(self) -> bool:
        return self.children.has_ready()

    @property
    def trouble(self) -> str:
        """Why it cannot start what it wants to start; empty when it can."""
        return self._template_failures.reason or self._worker_failures.reason

    @property
    def is_gone(self) -> bool:
        return self._template is None and not len(self.children)

    def next_due(self, now: float) -> float:
        """When something is to be done that no event will remind of: the next try of what has failed."""
        if self._template is None:
            return self._template_failures.streak.not_before
        if self._template.ready and len(self.children) < self.settings.pm_max_children:
            return max(self._worker_failures.streak.not_before, now + RETRY_ORDER)
        return math.inf

    # ── what the master tells it ────────────────────────────────────────────────────────────────────────────────────

    def reconcile(self, now: float) -> None:
        """Bring what is nearer to what is wanted, while the daemon serves."""
        self._keep_template(now)
        self._keep_workers(now)
        self._give_up_the_late(now)
        self._give_up_silent_peers(now)
        self._hand_over_access_log()

    def press(self, number: signal.Signals) -> None:
        """Make everybody leave: workers by `number`, the template at once, for it has nothing in hand."""
        self._leaving = True
        if self._template is not None:
            self._template.finished = True
            harsh = signal.SIGTERM if number is signal.SIGQUIT else number
            processes.send_signal(self._template.pidfd, harsh)
        for child in self.children:
            # Once is enough, but for two cases: a worker can miss QUIT between looking and accept(2), and then it is
            # idle; and nothing is too often for KILL. A worker in a request must not be interrupted again and again.
            idle = self._scoreboard.read(child.slot).stage == IDLE
            if child.pid and (child.pressed is not number or number is signal.SIGKILL or idle):
                child.pressed = number
                processes.send_signal(child.pidfd, number)

    def bury(self, pid: int, status: int, now: float) -> bool:
        """A child of the master has ended; False if it was none of this pool's."""
        if self._template is not None and self._template.pid == pid:
            self._bury_template(self._template, status, now)
            return True
        child = self.children.with_pid(pid)
        if child is None:
            return False
        self._bury_child(child, status, now)
        return True

    def reopen_access_log(self) -> bool:
        """Open the access log anew, if there is one; `reconcile` hands the descriptor to the workers."""
        if self._access_log is None:
            return False
        self._access_log.reopen()
        self._access_log_opened += 1
        return True

    def close(self) -> None:
        self._listener.close()
        self._scoreboard.close()
        if self._access_log is not None:
            self._access_log.close()

    # ── the template ────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep_template(self, now: float) -> None:
        template = self._template
        if template is None:
            if self._template_failures.streak.allows(now):
                self._start_template(now)
        elif template.ready:
            if self._template_failures.streak.failures and deadlines.is_late(template.since, now, YOUNG):
                self._template_failures.end()
        elif deadlines.is_late(template.since, now, self.settings.spawn_timeout):
            template.reason = f"the template was not ready after {self.settings.spawn_timeout:g} seconds"
            processes.send_signal(template.pidfd, signal.SIGKILL)

    def _start_template(self, now: float) -> None:
        try:
            spawned = start_template(
                self.settings,
                listener=self._listener.socket,
                scoreboard=self._scoreboard.descriptor,
                generation=self._generation,
                preload=self._preload,
            )
        except OSError as error:
            self._template_failures.count(f"cannot start a template: {error}", now)
            return
        template = Template(spawned.channel, self._generation, now, spawned.pid, spawned.pidfd, pipes=spawned.pipes)
        self._template = template
        self._dialogue.listen_to_prints(template)
        self._dialogue.begin(template, lambda now: self._hear_template(template, now))
        self._log.debug(f"template {spawned.pid} started, generation {self._generation}", self.name)

    def _hear_template(self, template: Template, now: float) -> None:
        for message, _ in self._dialogue.hear(template):
            match message:
                case messages.Loaded():
                    template.ready, template.since = True, now
                    if message.text:
                        self._log.warning(f"preloaded, although the import left {message.text}", self.name)
                case messages.Unclean():
                    self._log.notice(
                        f"not preloaded, every worker imports the application itself: its import left {message.text}",
                        self.name,
                    )
                    self._preload = "no"
                    template.finished = True
                case messages.LoadFailed():
                    template.reason = message.text
                case messages.ForkFailed():
                    self._lose_order(message, now)
                case messages.Said():
                    self._dialogue.log_said(template, message)
                case _:
                    self._log.warning(f"{template.label()} said what no template says: {message!r}", self.name)

    def _bury_template(self, template: Template, status: int, now: float) -> None:
        self._hear_template(template, now)  # it may have left its reason behind
        self._dialogue.end(template)
        self._template = None
        how = f"{template.label()} {processes.describe_end(status)} after {now - template.since:.6f} seconds"
        if template.finished:
            self._log.debug(how, self.name)
        else:
            going_on = "; its workers go on, another template is started" if template.ready else ""
            self._template_failures.count(template.reason or how + going_on, now)

    # ── the workers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep_workers(self, now: float) -> None:
        streak = self._worker_failures.streak
        if self._template is None or not self._template.ready or not streak.allows(now):
            return
        missing = sizing.wanted_by_static(sizing.Census(len(self.children)), most=self.settings.pm_max_children)
        if streak.failures > 1:
            # They have been dying young: the next one is a trial, and the others wait for how it goes.
            missing = min(missing, 1 - len(self.children.unready()))
        for _ in range(missing):
            if not self._order_worker(self._template, now):
                break

    def _order_worker(self, template: Template, now: float) -> bool:
        """Ask the template for a worker; False when that must wait for another turn."""
        slot = self.children.free_slot()
        try:
            ordered = order_worker(
                template.channel,
                slot,
                catch_output=self.settings.catch_workers_output,
                access_log=None if self._access_log is None else self._access_log.fileno(),
            )
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EPIPE, errno.ECONNRESET):  # busy, or gone
                self._worker_failures.count(f"cannot order a worker: {error}", now)
            return False
        child = Child(ordered.mailbox, template.generation, now, pipes=ordered.pipes, slot=slot)
        child.access_log = self._access_log_opened
        child.is_news = self.launched
        self.children.add(child)
        self._dialogue.begin(child, lambda now: self._hear_child(child, now))
        return True

    def _hear_child(self, child: Child, now: float) -> None:
        for message, sender in self._dialogue.hear(child):
            match message:
                case messages.Born() if not child.pid:
                    self._adopt(child, sender.pid)
                case messages.Ready() if child.pid:
                    self._welcome(child, now)
                case messages.LoadFailed():
                    child.reason = message.text
                case messages.Said():
                    self._dialogue.log_said(child, message)
                case _:
                    self._log.warning(f"{child.label()} said what no worker says: {message!r}", self.name)
        if child.channel_ended and not child.pid and self.children.in_slot(child.slot) is child:
            if not self._leaving:  # or its template was told to leave with the order still unread
                self._worker_failures.count("a worker died before it was born", now)
            self._forget(child)

    def _adopt(self, child: Child, pid: int) -> None:
        """A worker has said its first word: the kernel tells who it is, by its credentials, and whose child it is."""
        pidfd = processes.confirm_child(pid)
        if pidfd is None or self.children.with_pid(pid) is not None:
            self._log.warning(f"process {pid} is no child of this master and cannot be a worker", self.name)
            return
        child.pid, child.pidfd = pid, pidfd
        self._dialogue.listen_to_prints(child)
        if child.is_news:
            self._log.notice(f"{child.label()} started", self.name)

    def _welcome(self, child: Child, now: float) -> None:
        if not self.is_serving and self.launched:
            self._log.notice("the pool serves", self.name)
        child.ready, child.since = True, now

    def _lose_order(self, failed: messages.ForkFailed, now: float) -> None:
        child = self.children.in_slot(failed.slot)
        if child is not None and not child.pid:
            self._forget(child)
            self._worker_failures.count(f"fork() failed: {os.strerror(failed.error)} ({failed.error})", now)

    def _bury_child(self, child: Child, status: int, now: float) -> None:
        self._hear_child(child, now)  # it may have left its reason behind
        lived = now - child.since
        how = f"{child.label()} {processes.describe_end(status)} after {lived:.6f} seconds from start"
        begun = self._scoreboard.read(child.slot).number
        self._forget(child)
        if child.pressed is not None:
            self._log.say(Level.DEBUG if _obeyed(child, status) else Level.WARNING, how, self.name)
        elif child.reason or died_young(lived, begun):
            self._worker_failures.count(child.reason or how, now)
        else:
            normal = status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGQUIT)
            self._log.say(Level.NOTICE if normal else Level.WARNING, how, self.name)

    def _forget(self, child: Child) -> None:
        self._dialogue.end(child)
        self._scoreboard.clear(child.slot)
        self.children.remove(child)

    # ── time limits and messages ────────────────────────────────────────────────────────────────────────────────────

    def _give_up_the_late(self, now: float) -> None:
        for child in self.children:
            if child.ready:
                if self._worker_failures.streak.failures and deadlines.is_late(child.since, now, YOUNG):
                    self._worker_failures.end()
            elif deadlines.is_late(child.since, now, self.settings.spawn_timeout):
                self._give_up_on(child, f"not ready after {self.settings.spawn_timeout:g} seconds")

    def _give_up_on(self, child: Child, reason: str) -> None:
        if child.pid:
            child.reason = child.reason or f"{child.label()} was {reason}"
            processes.send_signal(child.pidfd, signal.SIGKILL)
            return
        # Ordered and never born: a template that cannot fork is of no use, and the order ends with it.
        if self._template is not None:
            self._template.reason = f"{self._template.label()} was ordered to fork a worker, which was {reason}"
            processes.send_signal(self._template.pidfd, signal.SIGKILL)

    def _give_up_silent_peers(self, now: float) -> None:
        readings = [(child.slot, self._scoreboard.read(child.slot)) for child in self.children if child.ready]
        for slot, number in deadlines.silent_peers(readings, now, self.settings.request_head_timeout):
            child = self.children.in_slot(slot)
            if child is not None:
                self._post(child, messages.GiveUp(number))

    def _hand_over_access_log(self) -> None:
        if self._access_log is None:
            return
        for child in self.children:
            if child.pid and child.access_log != self._access_log_opened:
                message = messages.NewAccessLog(descriptors=(self._access_log.fileno(),))
                if self._post(child, message):
                    child.access_log = self._access_log_opened

    def _post(self, child: Child, message: messages.Message) -> bool:
        """Put a message in a worker's mailbox and make it look; False when the mailbox is full or closed."""
        try:
            messages.send(child.channel, message)
        except OSError:
            return False
        processes.send_signal(child.pidfd, signal.SIGUSR1)
        return True


def _obeyed(child: Child, status: int) -> bool:
    """Whether a worker that was asked to leave did so by itself, or by the TERM that it was sent."""
    by_term = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    return status == 0 or (by_term and child.pressed is signal.SIGTERM)
