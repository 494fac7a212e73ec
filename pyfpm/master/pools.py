"""A pool: its listener, its template, its workers, and the number wanted.

Runs in: master.
Fails by: nothing that a pool does reaches the master: it is logged, and tried again with patience.

Events (a message, an end, a signal) only change what is known. `reconcile` compares that with what is wanted, once a
turn, and acts; so an event that got lost costs a turn and never a worker.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import signal
from typing import TYPE_CHECKING

from pyfpm import messages
from pyfpm.errors import MessageError
from pyfpm.logs.error_log import Level
from pyfpm.logs.worker_output import OutputLines
from pyfpm.master import deadlines, processes, sizing
from pyfpm.master.backoff import YOUNG, Streak, died_young
from pyfpm.master.children import Child, Children, Process, Template
from pyfpm.master.outputs import Output
from pyfpm.master.spawn import start_template
from pyfpm.scoreboard import IDLE, Scoreboard

if TYPE_CHECKING:
    from pyfpm.config.directives import GlobalSettings, PoolSettings
    from pyfpm.logs.error_log import ErrorLog
    from pyfpm.logs.files import LogFile
    from pyfpm.master.listeners import Listener
    from pyfpm.master.loop import Callback, Loop

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
        self.listener = listener
        self.children = Children(settings.pm_max_children)
        self.trouble = ""  # why it cannot serve, while it cannot
        self.launched = False  # from then on the birth of a worker is news
        self._daemon = daemon
        self._access_log = access_log
        self._access_log_opened = 1
        self._log = log
        self._loop = loop
        self._scoreboard = Scoreboard.create(self.name, settings.pm_max_children)
        self._template: Template | None = None
        self._preload = settings.preload
        self._generation = 1
        self._template_streak = Streak()
        self._worker_streak = Streak()

    # ── what others ask ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_serving(self) -> bool:
        return self.children.has_ready()

    def next_due(self, now: float) -> float:
        """When something is to be done that no event will remind of: the next try of what has failed."""
        if self._template is None:
            return self._template_streak.not_before
        if self._template.ready and len(self.children) < self.settings.pm_max_children:
            return max(self._worker_streak.not_before, now + RETRY_ORDER)
        return math.inf

    @property
    def is_gone(self) -> bool:
        return self._template is None and not len(self.children)

    # ── every turn ──────────────────────────────────────────────────────────────────────────────────────────────────

    def reconcile(self, now: float) -> None:
        """Bring what is nearer to what is wanted, while the daemon serves."""
        self._keep_template(now)
        self._keep_workers(now)
        self._give_up_the_late(now)
        self._give_up_silent_peers(now)
        self._hand_over_access_log()

    def press(self, number: signal.Signals) -> None:
        """Make everybody leave: workers by `number`, the template at once, for it has nothing in hand."""
        if self._template is not None and self._template.pidfd >= 0:
            self._template.finished = True
            processes.send_signal(self._template.pidfd, max(number, signal.SIGTERM, key=_harshness))
        for child in self.children:
            if child.pidfd < 0:
                continue
            # Once is enough, but for two cases: a worker can miss QUIT between looking and accept(2), and then it is
            # idle; and nothing is too often for KILL. A worker in a request must not be interrupted again and again.
            idle = self._scoreboard.read(child.slot).stage == IDLE
            if child.pressed is not number or number is signal.SIGKILL or idle:
                child.pressed = number
                processes.send_signal(child.pidfd, number)

    def reopen_access_log(self) -> bool:
        """Open the access log anew, if there is one; `reconcile` hands the descriptor to the workers."""
        if self._access_log is None:
            return False
        self._access_log.reopen()
        self._access_log_opened += 1
        return True

    def close(self) -> None:
        self.listener.close()
        self._scoreboard.close()
        if self._access_log is not None:
            self._access_log.close()

    # ── the template ────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep_template(self, now: float) -> None:
        template = self._template
        if template is None:
            if self._template_streak.allows(now):
                self._start_template(now)
        elif template.ready and deadlines.is_late(template.since, now, YOUNG):
            self._template_streak = Streak()
        elif not template.ready and deadlines.is_late(template.since, now, self.settings.spawn_timeout):
            template.reason = template.reason or f"not ready after {self.settings.spawn_timeout:g} seconds"
            processes.send_signal(template.pidfd, signal.SIGKILL)

    def _start_template(self, now: float) -> None:
        try:
            spawned = start_template(
                self.settings,
                listener=self.listener.socket,
                scoreboard=self._scoreboard.descriptor,
                generation=self._generation,
                preload=self._preload,
            )
            pidfd = os.pidfd_open(spawned.pid)
        except OSError as error:
            self._count_template_failure(f"cannot start a template: {error}", now)
            return
        template = Template(spawned.channel, self._generation, now, pid=spawned.pid, pidfd=pidfd)
        template.outputs = self._open_outputs(template, spawned.stdout, spawned.stderr)
        self._template = template
        self._loop.watch(spawned.channel.fileno(), lambda now: self._hear_template(template, now))
        self._log.debug(f"template {spawned.pid} started, generation {self._generation}", self.name)

    def _hear_template(self, template: Template, now: float) -> None:
        for message in self._listen_to(template, now):
            match message:
                case messages.Loaded():
                    template.ready = True
                    template.since = now
                    if message.text:
                        self._log.warning(f"preload = yes, although the import left {message.text}", self.name)
                case messages.Unclean():
                    self._log.notice(
                        f"workers load the application themselves, for its import left {message.text} (see preload)",
                        self.name,
                    )
                    self._preload = "no"
                    template.finished = True
                case messages.LoadFailed():
                    template.reason = message.text
                case messages.ForkFailed():
                    self._lose_order(message, now)
                case messages.Said():
                    self._log_said(template, message)
                case _:
                    self._log.warning(f"{template.label()} said what no template says: {message!r}", self.name)

    def _lose_order(self, failed: messages.ForkFailed, now: float) -> None:
        child = self.children.in_slot(failed.slot)
        if child is not None and not child.pid:
            self._forget(child)
            self._count_worker_failure(f"fork() failed: {os.strerror(failed.error)} ({failed.error})", now)

    def _bury_template(self, template: Template, status: int, now: float) -> None:
        self._listen_to_the_end(template, lambda now: self._hear_template(template, now), now)
        self._release(template)
        self._template = None
        how = f"{template.label()} {processes.describe_end(status)} after {now - template.since:.6f} seconds"
        if template.finished:
            self._log.debug(how, self.name)
        elif template.ready:
            self._log.warning(f"{how}; its workers go on, another template is started", self.name)
            self._template_streak = self._template_streak.after_failure(now)
        else:
            self._count_template_failure(template.reason or how, now)

    def _count_template_failure(self, reason: str, now: float) -> None:
        self._template_streak = self._template_streak.after_failure(now)
        self._report_failure(reason, self._template_streak, now)

    # ── the workers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep_workers(self, now: float) -> None:
        if self._template is None or not self._template.ready or not self._worker_streak.allows(now):
            return
        missing = sizing.wanted_by_static(sizing.Census(len(self.children)), most=self.settings.pm_max_children)
        if self._worker_streak.failures > 1:
            # They have been dying young: the next one is a trial, and the others wait for how it goes.
            missing = min(missing, 1 - len(self.children.unready()))
        for _ in range(missing):
            if not self._order_worker(self._template, now):
                break

    def _order_worker(self, template: Template, now: float) -> bool:
        """Ask the template for a worker; False when that must wait for another turn."""
        slot = self.children.free_slot()
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as ours:
            try:
                mailbox, theirs = messages.socket_pair()
                opened.callback(theirs.close)
                ours.callback(mailbox.close)
                pipes = self._open_pipes(opened, ours)
                descriptors = [theirs.fileno(), *pipes[1]]
                if self._access_log is not None:
                    descriptors.append(self._access_log.fileno())
                messages.send(template.channel, messages.ForkWorker(slot, descriptors=tuple(descriptors)))
            except BlockingIOError:
                return False  # the template is busy with earlier orders
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ECONNRESET):  # those say that the template has gone
                    self._count_worker_failure(f"cannot order a worker: {error}", now)
                return False
            ours.pop_all()
        child = Child(mailbox, template.generation, now, slot=slot, pipes=pipes[0])
        child.access_log = self._access_log_opened
        self.children.add(child)
        self._loop.watch(mailbox.fileno(), lambda now: self._hear_child(child, now))
        return True

    def _open_pipes(
        self, opened: contextlib.ExitStack, ours: contextlib.ExitStack
    ) -> tuple[tuple[int, ...], tuple[int, int]]:
        """Where a worker's stdout and stderr go: our ends of two pipes, and its ends; or twice nowhere."""
        if not self.settings.catch_workers_output:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            opened.callback(os.close, nowhere)
            return (), (nowhere, nowhere)
        ends = [os.pipe(), os.pipe()]
        for reader, writer in ends:
            ours.callback(os.close, reader)
            opened.callback(os.close, writer)
        return (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])

    def _hear_child(self, child: Child, now: float) -> None:
        for message in self._listen_to(child, now):
            match message:
                case messages.Ready() if child.pid:
                    self._welcome(child, now)
                case messages.LoadFailed():
                    child.reason = message.text
                case messages.Said():
                    self._log_said(child, message)
                case messages.Born():
                    pass  # `_listen_to` has looked at the sender
                case _:
                    self._log.warning(f"{child.label()} said what no worker says: {message!r}", self.name)

    def _adopt(self, child: Child, pid: int) -> None:
        """A worker has said its first word: from its credentials we know who it is, and the kernel knows whose."""
        pidfd = processes.confirm_child(pid)
        if pidfd is None or self.children.with_pid(pid) is not None:
            self._log.warning(f"process {pid} is no child of this master and cannot be a worker", self.name)
            return
        child.pid, child.pidfd = pid, pidfd
        child.outputs = self._open_outputs(child, *child.pipes)
        child.pipes = ()
        if self.launched:
            self._log.notice(f"{child.label()} started", self.name)

    def _welcome(self, child: Child, now: float) -> None:
        child.ready = True
        child.since = now
        if self.trouble:
            self._log.notice("the pool serves again", self.name)
            self.trouble = ""

    def _bury_child(self, child: Child, status: int, now: float) -> None:
        self._listen_to_the_end(child, lambda now: self._hear_child(child, now), now)
        reading = self._scoreboard.read(child.slot)
        lived = now - child.since
        how = f"{child.label()} {processes.describe_end(status)} after {lived:.6f} seconds from start"
        self._forget(child)
        if child.pressed is not None:
            level = Level.DEBUG if _obeyed(child, status) else Level.WARNING
            self._log.say(level, how, self.name)
        elif child.reason:
            self._count_worker_failure(child.reason, now)
        elif died_young(lived, reading.served):
            self._count_worker_failure(how, now)
        else:
            normal = status == 0 or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGQUIT)
            self._log.say(Level.NOTICE if normal else Level.WARNING, how, self.name)

    def _count_worker_failure(self, reason: str, now: float) -> None:
        self._worker_streak = self._worker_streak.after_failure(now)
        self._report_failure(reason, self._worker_streak, now)

    def _report_failure(self, reason: str, streak: Streak, now: float) -> None:
        """One event for the first failure and one for the fact that they go on; the rest are for debugging."""
        first, _, detail = reason.partition("\n")
        news = first != self.trouble
        self.trouble = first
        if news:
            self._log.error(first, self.name, detail)
        else:
            self._log.debug(first, self.name)
        if streak.failures == 2:
            self._log.warning(
                f"failed twice in a row, next try in {streak.not_before - now:.1f} seconds, then in longer and longer "
                "intervals of up to 30 seconds; further failures for the same reason are not logged",
                self.name,
            )

    def _give_up_the_late(self, now: float) -> None:
        for child in self.children:
            if child.ready:
                if self._worker_streak.failures and deadlines.is_late(child.since, now, YOUNG):
                    self._worker_streak = Streak()
            elif deadlines.is_late(child.since, now, self.settings.spawn_timeout):
                reason = f"not ready after {self.settings.spawn_timeout:g} seconds"
                if child.pidfd >= 0:
                    child.reason = child.reason or f"{child.label()}: {reason}"
                    processes.send_signal(child.pidfd, signal.SIGKILL)
                elif self._template is not None:
                    # Ordered and never born: whoever cannot fork is of no use.
                    self._log.error(f"{self._template.label()} has not forked a worker: {reason}", self.name)
                    processes.send_signal(self._template.pidfd, signal.SIGKILL)
                    self._forget(child)

    def _give_up_silent_peers(self, now: float) -> None:
        readings = [(child.slot, self._scoreboard.read(child.slot)) for child in self.children if child.ready]
        for slot, number in deadlines.silent_peers(readings, now, self.settings.request_head_timeout):
            child = self.children.in_slot(slot)
            if child is not None and self._post(child, messages.GiveUp(number)):
                self._log.debug(f"{child.label()}: its peer is silent, told to give up", self.name)

    def _hand_over_access_log(self) -> None:
        if self._access_log is None:
            return
        for child in self.children:
            if (
                child.pid
                and child.access_log != self._access_log_opened
                and self._post(child, messages.NewAccessLog(descriptors=(self._access_log.fileno(),)))
            ):
                child.access_log = self._access_log_opened

    def _post(self, child: Child, message: messages.Message) -> bool:
        """Put a message in a worker's mailbox and make it look; False when the mailbox is full."""
        try:
            messages.send(child.channel, message)
        except OSError:
            return False
        processes.send_signal(child.pidfd, signal.SIGUSR1)
        return True

    # ── either kind of process ──────────────────────────────────────────────────────────────────────────────────────

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

    def _listen_to(self, process: Process, now: float) -> list[messages.Message]:
        """What a process has to say now. Nonsense ends the conversation, not the process."""
        heard: list[messages.Message] = []
        try:
            while len(heard) < 64:
                received = messages.receive(process.channel)
                if received is None:
                    self._lose_channel(process, now)
                    break
                message, sender = received
                if isinstance(message, messages.Born) and isinstance(process, Child) and not process.pid:
                    self._adopt(process, sender.pid)
                heard.append(message)
        except BlockingIOError:
            pass
        except (MessageError, OSError) as error:
            self._log.warning(f"{process.label()} does not speak our language: {error}", self.name)
            self._lose_channel(process, now)
        return heard

    def _lose_channel(self, process: Process, now: float) -> None:
        self._loop.forget(process.channel.fileno())
        if isinstance(process, Child) and not process.pid:
            # The other end is closed and nobody was born: it died on the way, its pid was never known.
            self._log.debug(f"the worker ordered for slot {process.slot} was never born", self.name)
            self._worker_streak = self._worker_streak.after_failure(now)
            self._forget(process)

    def _listen_to_the_end(self, process: Process, hear: Callback, now: float) -> None:
        """A process that has ended may have left words behind: its reason, most of all."""
        if process.channel.fileno() >= 0:
            hear(now)

    def _log_said(self, process: Process, said: messages.Said) -> None:
        level = Level(min(max(said.level, Level.DEBUG), Level.ALERT))
        first, _, detail = said.text.partition("\n")
        self._log.say(level, f"{process.label()} {first}", self.name, detail)

    def _open_outputs(self, process: Process, *pipes: int) -> list[Output]:
        return [
            Output(descriptor, self._lines_of(process, stream), self._log, self._loop)
            for descriptor, stream in zip(pipes, ("stdout", "stderr"), strict=False)
        ]

    def _lines_of(self, process: Process, stream: str) -> OutputLines:
        return OutputLines(
            self.name,
            process.pid,
            stream,
            head=self._log.head,
            limit=self._daemon.log_limit,
            decorate=self.settings.decorate_workers_output,
            buffering=self._daemon.log_buffering,
        )

    def _forget(self, child: Child) -> None:
        self._release(child)
        self._scoreboard.clear(child.slot)
        self.children.remove(child)

    def _release(self, process: Process) -> None:
        """Close what the master holds of a process that is no more."""
        if isinstance(process, Child) and process.pipes:
            process.outputs = self._open_outputs(process, *process.pipes)
        for output in process.outputs:
            output.close()
        if process.channel.fileno() >= 0:
            self._loop.forget(process.channel.fileno())
        process.channel.close()
        if process.pidfd >= 0:
            os.close(process.pidfd)


_HARSHNESS = (signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL)


def _harshness(number: signal.Signals) -> int:
    return _HARSHNESS.index(number)


def _obeyed(child: Child, status: int) -> bool:
    """Whether a worker that was asked to leave did so by itself, or by the TERM that it was sent."""
    return status == 0 or (
        child.pressed is signal.SIGTERM and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    )
