"""One loading of a pool's application: its settings, its scoreboard, its template and its workers.

Runs in: master.
Fails by: nothing that its processes do reaches the master: it is logged, and tried again with patience.

A generation does what its pool tells it (`want`, `dismiss`) and decides nothing about numbers. A pool has one in the
ordinary case, and two while it reloads.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import signal
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyfpm import messages
from pyfpm.logs.error_log import Level
from pyfpm.master import deadlines, processes
from pyfpm.master.backoff import YOUNG, died_young
from pyfpm.master.children import Child, Children, Template
from pyfpm.master.dialogue import Dialogue
from pyfpm.master.failures import Failures
from pyfpm.master.lifecycle import Phase, is_harsher, pressure
from pyfpm.master.orders import order_worker
from pyfpm.master.sizing import Census
from pyfpm.master.spawn import start_template
from pyfpm.scoreboard import IDLE, IN_REQUEST, READING, Scoreboard

if TYPE_CHECKING:
    from pyfpm.config.directives import GlobalSettings, PoolSettings
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.logs.files import LogFile
    from pyfpm.master.listeners import Listener
    from pyfpm.master.loop import Loop

RETRY_ORDER = 0.05  # seconds; a template that is busy with its orders is asked again then
# A tenant can ring as often as it likes; it is heard so often at most.
BELL_PAUSE = 0.005


@dataclass
class AccessLog:
    """A pool's access log and how often it was opened: workers with another number write to a file that was rotated."""

    file: LogFile
    opened: int = 1

    def reopen(self) -> None:
        self.file.reopen()
        self.opened += 1


@dataclass
class Common:
    """What all generations of a pool share."""

    listener: Listener
    access_log: AccessLog | None
    daemon: GlobalSettings
    log: ErrorLog
    loop: Loop


@dataclass
class Tally:
    """What became of a generation's workers that are no more."""

    requests: int = 0
    recycled: int = 0
    crashed: int = 0
    killed: int = 0


class Generation:
    def __init__(self, number: int, settings: PoolSettings, common: Common, alarm_below: int = 0) -> None:
        self.number = number
        self.settings = settings
        self.name = settings.name
        # Twice the maximum: those that finish a request while they leave keep their slots.
        self.scoreboard = Scoreboard.create(self.name, 2 * settings.pm_max_children + settings.reload_surge)
        self.children = Children(self.scoreboard.slots)
        self.tally = Tally()
        self.news = False  # from when on the birth of a worker is worth a line
        self.files_changed: str | None = None  # the template's answer to `ask_files`
        self._common = common
        self._log = common.log
        self._dialogue = Dialogue(settings, common.daemon, common.log, common.loop)
        self._template: Template | None = None
        self._template_failures = Failures(self.name, common.log)
        self._worker_failures = Failures(self.name, common.log)
        self._preload = settings.preload
        self._alarm_below = alarm_below
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._deaf_until: float | None = None
        self._wanted = 0  # workers that are to be started and could not be ordered yet
        self._dismissed = False
        common.loop.watch(self._bell, self._on_bell)

    # ── how it is ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_serving(self) -> bool:
        return self.children.has_ready()

    @property
    def has_loaded(self) -> bool:
        """Its template can fork workers."""
        return self._template is not None and self._template.ready and not self._template.finished

    @property
    def trouble(self) -> str:
        """Why it cannot start what it wants to start; empty when it can."""
        return self._template_failures.reason or self._worker_failures.reason

    @property
    def explanation(self) -> str:
        """The trouble with the end of its traceback, for people."""
        return self._template_failures.explanation or self._worker_failures.explanation

    @property
    def is_gone(self) -> bool:
        return self._template is None and not len(self.children)

    def staying(self) -> list[Child]:
        """The workers that nobody has asked to leave, and that have not asked for it."""
        return [child for child in self.children if child.leaving_since is None and not child.outlived]

    def outlived(self) -> list[Child]:
        """The workers that have reached a limit and wait for being let go."""
        return [child for child in self.children if child.leaving_since is None and child.outlived]

    def idle(self) -> list[tuple[float, Child]]:
        """(idle since, worker) of those that stay, the longest idle first."""
        return sorted(
            (
                (self.scoreboard.read(child.slot).since / 1e9, child)
                for child in self.staying()
                if child.ready and self.scoreboard.stage(child.slot) == IDLE
            ),
            key=lambda pair: pair[0],
        )

    def census(self, waiting: int = 0) -> Census:
        idle = busy = starting = 0
        for child in self.staying():
            if not child.ready:
                starting += 1
            elif self.scoreboard.stage(child.slot) == IDLE:
                idle += 1
            else:
                busy += 1
        return Census(idle, busy, starting, waiting)

    def may_start(self, now: float) -> bool:
        """Whether an order would lead to anything now."""
        if self._dismissed or not self._worker_failures.streak.allows(now):
            return False
        return self._template is not None or self._template_failures.streak.allows(now)

    def next_due(self, now: float) -> float:
        """When something is to be done that no event will remind of."""
        due = math.inf if self._deaf_until is None else self._deaf_until
        if self._dismissed or not self._wanted:
            return due
        if self._template is None:
            return min(due, max(self._template_failures.streak.not_before, now))
        if self._template.ready:
            return min(due, max(self._worker_failures.streak.not_before, now + RETRY_ORDER))
        return due

    # ── what the pool tells it ──────────────────────────────────────────────────────────────────────────────────────

    def want(self, more: int, now: float, *, must_prove_itself: bool = False, keep_template: bool = True) -> None:
        """Start so many more workers; what cannot be ordered now is up to the next call."""
        self._wanted = more
        self._keep_template(now, more > 0 or keep_template)
        streak = self._worker_failures.streak
        if not self.has_loaded or not streak.allows(now):
            return
        if streak.failures > 1:
            # They have been dying young: the next one is a trial, and the others wait for how it goes.
            more = min(more, 1 - len(self.children.unready()))
        for _ in range(more):
            if not self._order_worker(now, must_prove_itself):
                break
            self._wanted -= 1

    def listen_for_bell(self) -> None:
        """From now on a worker that leaves too few idle ones wakes the master."""
        self.scoreboard.set_alarm()

    def dismiss(self, children: Iterable[Child], now: float) -> None:
        """Ask workers to leave when they have finished what they have in hand."""
        for child in children:
            if child.leaving_since is None:
                child.leaving_since = now
        self._push_leaving(now)

    def dismiss_all(self, now: float) -> None:
        """Everybody is to leave, and nobody is started any more."""
        self._dismissed = True
        self._end_template(signal.SIGTERM)
        self.dismiss(self.children, now)

    def press(self, number: signal.Signals, now: float) -> None:
        """Everybody is to leave by this signal; the daemon is terminating."""
        self._dismissed = True
        self._end_template(number)
        for child in self.children:
            child.leaving_since = child.leaving_since or now
            if child.pid and (child.pressed is not number or number is signal.SIGKILL):
                child.pressed = number
                processes.send_signal(child.pidfd, number)

    def end_template(self) -> None:
        """The template is no longer needed; its workers go on."""
        self._end_template(signal.SIGTERM)

    def adopt(self, remains: Iterable[tuple[int, int, tuple[int, ...]]], now: float) -> None:
        """Take workers (pid, mailbox, pipes) that an earlier image of this master had, and start none."""
        self._dismissed = True
        for slot, (pid, mailbox, pipes) in enumerate(remains):
            pidfd = processes.confirm_child(pid)
            if pidfd is None:
                continue
            child = Child(socket.socket(fileno=mailbox), self.number, now, pid, pidfd, pipes, slot=slot, ready=True)
            # Their scoreboard is not known here: "idle" makes a request to leave be repeated until they do.
            self.scoreboard.show(slot, IDLE)
            self.children.add(child)
            self._dialogue.listen_to_prints(child)
            self._dialogue.begin(child, functools.partial(self._hear_child, child))

    def ask_files(self) -> bool:
        """Ask the template whether the application's files have changed; False if there is no template to ask."""
        self.files_changed = None
        if not self.has_loaded or self._template is None:
            return False
        try:
            messages.send(self._template.channel, messages.AskFiles())
        except OSError:
            return False
        return True

    def look_after(self, now: float) -> None:
        """Time limits, and messages that could not be delivered: what no event brings."""
        self._listen_again(now)
        self._give_up_the_late(now)
        self._give_up_silent_peers(now)
        self._outlive(now)
        self._push_leaving(now)
        self._hand_over_access_log()

    def bury(self, pid: int, status: int, now: float) -> bool:
        """A child of the master has ended; False if it was none of these."""
        if self._template is not None and self._template.pid == pid:
            self._bury_template(self._template, status, now)
            return True
        child = self.children.with_pid(pid)
        if child is None:
            return False
        self._bury_child(child, status, now)
        return True

    def close(self) -> None:
        """It is gone, and so is what the master held of it."""
        self._common.loop.forget(self._bell)
        os.close(self._bell)
        self.scoreboard.close()

    # ── the template ────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep_template(self, now: float, wanted: bool) -> None:
        template = self._template
        if template is None:
            if wanted and not self._dismissed and self._template_failures.streak.allows(now):
                self._start_template(now)
        elif not template.ready:
            if deadlines.is_late(template.since, now, self.settings.spawn_timeout):
                template.reason = f"{template.label()} was not ready within {self.settings.spawn_timeout:g} s"
                processes.send_signal(template.pidfd, signal.SIGKILL)
        elif not wanted:
            self._end_template(signal.SIGTERM)
        elif self._template_failures.streak.failures and deadlines.is_late(template.since, now, YOUNG):
            self._template_failures.end()

    def _start_template(self, now: float) -> None:
        try:
            spawned = start_template(
                self.settings,
                listener=self._common.listener.socket,
                scoreboard=self.scoreboard,
                bell=self._bell,
                generation=self.number,
                preload=self._preload,
                alarm_below=self._alarm_below,
            )
        except OSError as error:
            self._template_failures.count(f"cannot start a template: {error}", now)
            return
        template = Template(spawned.channel, self.number, now, spawned.pid, spawned.pidfd, pipes=spawned.pipes)
        self._template = template
        self._dialogue.listen_to_prints(template)
        self._dialogue.begin(template, lambda now: self._hear_template(template, now))
        self._log.debug(f"template {spawned.pid} started, generation {self.number}", self.name)

    def _end_template(self, number: signal.Signals) -> None:
        if self._template is not None:
            self._template.finished = True
            processes.send_signal(self._template.pidfd, number)

    def _hear_template(self, template: Template, now: float) -> None:
        for message, _ in self._dialogue.hear(template):
            match message:
                case messages.Loaded():
                    template.ready, template.since = True, now
                    if message.text:
                        self._log.warning(f"preloaded, although the import left {message.text}", self.name)
                case messages.Unclean():
                    text = f"not preloaded, every worker imports the application itself: its import left {message.text}"
                    self._log.notice(text, self.name)
                    self._preload = "no"
                    template.finished = True
                case messages.LoadFailed():
                    template.reason = message.text
                case messages.FilesChanged():
                    self.files_changed = message.text
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

    def _order_worker(self, now: float, must_prove_itself: bool) -> bool:
        """Ask the template for a worker; False when that must wait for another turn."""
        assert self._template is not None
        slot = self.children.free_slot()
        if slot is None:
            return False
        access_log = self._common.access_log
        try:
            ordered = order_worker(
                self._template.channel,
                slot,
                must_prove_itself=must_prove_itself,
                catch_output=self.settings.catch_workers_output,
                access_log=None if access_log is None else access_log.file.fileno(),
            )
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EPIPE, errno.ECONNRESET):  # busy, or gone
                self._worker_failures.count(f"cannot order a worker: {error}", now)
            return False
        child = Child(ordered.mailbox, self.number, now, pipes=ordered.pipes, slot=slot, is_news=self.news)
        child.access_log = 0 if access_log is None else access_log.opened
        self.children.add(child)
        self._dialogue.begin(child, lambda now: self._hear_child(child, now))
        return True

    def _hear_child(self, child: Child, now: float) -> None:
        for message, sender in self._dialogue.hear(child):
            match message:
                case messages.Born() if not child.pid:
                    self._adopt(child, sender.pid)
                case messages.Ready() if child.pid:
                    child.ready, child.since = True, now
                case messages.LoadFailed():
                    child.reason = message.text
                case messages.Leaving() if not child.outlived:
                    self._let_outlive(child, message.text)
                case messages.Said():
                    self._dialogue.log_said(child, message)
                case _:
                    self._log.warning(f"{child.label()} said what no worker says: {message!r}", self.name)
        if child.channel_ended and not child.pid and self.children.in_slot(child.slot) is child:
            if not self._dismissed:  # or its template was told to leave with the order still unread
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

    def _lose_order(self, failed: messages.ForkFailed, now: float) -> None:
        child = self.children.in_slot(failed.slot)
        if child is not None and not child.pid:
            self._forget(child)
            self._worker_failures.count(f"fork() failed: {os.strerror(failed.error)} ({failed.error})", now)

    def _bury_child(self, child: Child, status: int, now: float) -> None:
        self._hear_child(child, now)  # it may have left its reason behind
        lived = now - child.since
        how = f"{child.label()} {processes.describe_end(status)} after {lived:.6f} seconds from start"
        last = self.scoreboard.read_whole(child.slot)
        served = last.served
        self.tally.requests += served
        self._forget(child)
        if os.WIFSIGNALED(status) and last.stage in IN_REQUEST:
            how += f', in the middle of "{last.method} {last.uri}"'
        if child.leaving_since is not None:
            obeyed = not child.ready or (_obeyed(child, status) and last.stage not in IN_REQUEST)
            self.tally.killed += not obeyed
            self._log.say(Level.DEBUG if obeyed else Level.WARNING, how, self.name)
        elif child.reason or died_young(lived, last.number):
            self.tally.crashed += 1
            self._worker_failures.count(child.reason or how, now)
        else:
            normal = status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGQUIT)
            self.tally.crashed += not normal
            self._log.say(Level.NOTICE if normal else Level.WARNING, how, self.name)

    def _forget(self, child: Child) -> None:
        self._dialogue.end(child)
        self.scoreboard.clear(child.slot)
        self.children.remove(child)

    # ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _give_up_the_late(self, now: float) -> None:
        for child in self.children:
            if child.ready:
                if self._worker_failures.streak.failures and deadlines.is_late(child.since, now, YOUNG):
                    self._worker_failures.end()
            elif deadlines.is_late(child.since, now, self.settings.spawn_timeout):
                self._give_up_on(child, f"not ready within {self.settings.spawn_timeout:g} s")

    def _give_up_on(self, child: Child, reason: str) -> None:
        if child.pid:
            child.reason = child.reason or f"{child.label()} was {reason}"
            processes.send_signal(child.pidfd, signal.SIGKILL)
        elif self._template is not None:
            # Ordered and never born: a template that cannot fork is of no use, and the order ends with it.
            self._template.reason = f"{self._template.label()} was ordered to fork a worker, which was {reason}"
            processes.send_signal(self._template.pidfd, signal.SIGKILL)

    def _give_up_silent_peers(self, now: float) -> None:
        if not self.scoreboard.has(READING):
            return  # nearly always, so it must be cheap
        readings = [(child.slot, self.scoreboard.read(child.slot)) for child in self.children if child.ready]
        for slot, number in deadlines.silent_peers(readings, now, self.settings.request_head_timeout):
            child = self.children.in_slot(slot)
            if child is not None:
                self._post(child, messages.GiveUp(number))

    def _outlive(self, now: float) -> None:
        limit = self.settings.pm_max_lifetime
        for child in self.staying() if limit else ():
            if child.ready and deadlines.is_late(child.since, now, limit):
                self._let_outlive(child, f"after {now - child.since:.0f} seconds (pm.max_lifetime)")

    def _let_outlive(self, child: Child, reason: str) -> None:
        child.outlived = True
        self.tally.recycled += 1
        first, _, _ = reason.partition("\n")
        self._log.notice(f"{child.label()} is recycled {first}", self.name)

    def _push_leaving(self, now: float) -> None:
        """Those that were asked to leave and have not: the same signal again where it may have been missed, or more."""
        for child in self.children:
            if child.leaving_since is None or not child.pid:
                continue
            grace = self._common.daemon.process_control_timeout
            number = pressure(Phase.FINISHING, now - child.leaving_since, grace)
            if number is None or is_harsher(child.pressed, number):
                continue
            # QUIT once is enough for a worker in a request, which must not be interrupted again and again; one that is
            # idle can have missed it between looking at its flag and accept(2).
            if child.pressed is not number or self.scoreboard.stage(child.slot) == IDLE:
                child.pressed = number
                processes.send_signal(child.pidfd, number)

    # ── messages to workers, bells from them ────────────────────────────────────────────────────────────────────────

    def _hand_over_access_log(self) -> None:
        log = self._common.access_log
        if log is None:
            return
        for child in self.children:
            if not child.pid or child.access_log == log.opened:
                continue
            if self._post(child, messages.NewAccessLog(descriptors=(log.file.fileno(),))):
                child.access_log = log.opened

    def _post(self, child: Child, message: messages.Message) -> bool:
        """Put a message in a worker's mailbox and make it look; False when the mailbox is full or closed."""
        try:
            messages.send(child.channel, message)
        except OSError:
            return False
        processes.send_signal(child.pidfd, signal.SIGUSR1)
        return True

    def _on_bell(self, now: float) -> None:
        """Somebody rings: being awake is enough. Then a moment of deafness, for a tenant may ring without end."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        self._common.loop.forget(self._bell)
        self._deaf_until = now + BELL_PAUSE

    def _listen_again(self, now: float) -> None:
        if self._deaf_until is not None and now >= self._deaf_until:
            self._common.loop.watch(self._bell, self._on_bell)
            self._deaf_until = None


def _obeyed(child: Child, status: int) -> bool:
    """Whether a worker that was asked to leave did so by itself, or by the TERM that it was sent."""
    by_term = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    return status == 0 or (by_term and child.pressed is signal.SIGTERM)
