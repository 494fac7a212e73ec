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
import os
import signal
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyfpm import catalogue, messages, packets
from pyfpm.master import deadlines, processes
from pyfpm.master.backoff import YOUNG
from pyfpm.master.bell import Bell
from pyfpm.master.children import Child, Children
from pyfpm.master.dialogue import Dialogue, reason_of
from pyfpm.master.endings import Ending, judge
from pyfpm.master.failures import Failures
from pyfpm.master.lifecycle import LAST_SECOND, Phase, is_harsher, pressure
from pyfpm.master.overtime import Overtime
from pyfpm.master.reason import Reason
from pyfpm.master.sizing import Census
from pyfpm.master.spawn import Spawned, start_template, trace_signal
from pyfpm.master.tally import Tally
from pyfpm.master.templates import Templates
from pyfpm.master.worker_order import order_worker
from pyfpm.scoreboard import IDLE, IN_REQUEST, READING, Scoreboard

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyfpm.config.directives import PoolSettings
    from pyfpm.master.resources import PoolResources

RETRY_ORDER = 0.05  # seconds; a template that is busy with its orders is asked again then


class Generation:
    """The processes of one loading, and what the master holds of them.

    A pool makes one at its start, one for each reload and one for its stand-in. It lives until its last process is
    buried: `close` is called once `is_gone`.
    """

    def __init__(self, number: int, settings: PoolSettings, resources: PoolResources, alarm_below: int = 0) -> None:
        self.number = number
        self.settings = settings
        self.name = settings.name
        with contextlib.ExitStack() as undo:
            # Twice the maximum: those that finish a request while they leave keep their slots.
            self.scoreboard = Scoreboard.create(self.name, 2 * settings.pm_max_children + settings.reload_surge)
            undo.callback(self.scoreboard.close)
            self._bell = Bell(resources.loop)
            undo.pop_all()
        self.children = Children(self.scoreboard.slots)
        self.tally = Tally()
        self.signalled = 0  # workers that died by a signal
        self.news = False  # from when on the birth of a worker is worth a line
        self._resources = resources
        self._log = resources.log
        self._dialogue = Dialogue(settings, resources.daemon, resources.log, resources.loop, resources.quota)
        self.templates = Templates(
            settings, self._dialogue, resources.log, start=self._start_template, on_fork_failed=self._lose_order
        )
        self._overtime = Overtime(
            settings,
            self.scoreboard,
            self.children,
            self.tally,
            resources.log,
            resources.loop,
            resources.quota,
            self._post,
        )
        self._worker_failures = Failures(self.name, resources.log)
        self._alarm_below = alarm_below
        self._wanted = 0  # workers that are to be started and could not be ordered yet
        self._dismissed = False

    # ── how it is ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_serving(self) -> bool:
        return self.children.has_ready()

    @property
    def has_loaded(self) -> bool:
        """Its template can fork workers."""
        return self.templates.has_loaded

    @property
    def trouble(self) -> str:
        """Why it cannot start what it wants to start, in a line; empty when it can."""
        return self.explanation.first if self.explanation else ""

    @property
    def explanation(self) -> Reason | None:
        """The trouble with the end of its traceback, for people."""
        return self.templates.failures.reason or self._worker_failures.reason

    @property
    def has_failed_to_start(self) -> bool:
        """It is in trouble, and of the workers that were on the way by then none is left that may do better."""
        failed_at = self._worker_failures.streak.last
        return bool(self.trouble) and not any(child.since < failed_at for child in self.children.unready())

    @property
    def is_gone(self) -> bool:
        return self.templates.current is None and not len(self.children)

    def staying(self) -> list[Child]:
        """The workers that nobody has asked to leave, and that have not asked for it."""
        return [child for child in self.children if child.leaving_since is None and not child.outlived]

    def outlived(self) -> list[Child]:
        """The workers that have reached a limit and wait for being let go."""
        return [child for child in self.children if child.leaving_since is None and child.outlived]

    def may_accept(self) -> bool:
        """Whether any worker, leaving or not, can accept a connection yet."""
        return any(self._free_since(child) is not None for child in self.children)

    def about_to_go(self) -> list[float]:
        """Since when those are asked to leave that have no request to finish, and have none."""
        asked = [(child.leaving_since, self._free_since(child)) for child in self.children]
        return [max(leaving, free) for leaving, free in asked if leaving is not None and free is not None]

    def idle(self) -> list[tuple[float, Child]]:
        """(idle since, worker) of those that stay, the longest idle first."""
        ready = [(self._free_since(child), child) for child in self.staying() if child.ready]
        return sorted([(since, child) for since, child in ready if since is not None], key=lambda pair: pair[0])

    def _free_since(self, child: Child) -> float | None:
        """When its last request ended, or when it was ordered if it is on its way; None while it is in a request."""
        if not child.ready:
            return child.since
        if self.scoreboard.stage(child.slot) != IDLE:
            return None  # nearly all, when it matters: so this has to be cheap
        last = self.scoreboard.read(child.slot)
        return (last.since + last.duration) / 1e9

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

    def begun(self) -> int:
        """Requests that the workers which are there have begun."""
        return sum(self.scoreboard.read(child.slot).number for child in self.children)

    def may_start(self, now: float) -> bool:
        """Whether an order would lead to anything now."""
        if self._dismissed or not self._worker_failures.streak.allows(now):
            return False
        return self.templates.may_start(now)

    def next_due(self, now: float) -> float:
        """When something is to be done that no event will remind of."""
        due = min(self._bell.next_due(), self._overtime.next_due(now))
        if self._dismissed or not self._wanted:
            return due
        if self.templates.has_loaded:
            return min(due, max(self._worker_failures.streak.not_before, now + RETRY_ORDER))
        return min(due, self.templates.next_due(now))

    # ── what the pool tells it ──────────────────────────────────────────────────────────────────────────────────────

    def want(self, more: int, now: float, *, must_prove_itself: bool = False, keep_template: bool = True) -> None:
        """Start so many more workers; what cannot be ordered now is up to the next call."""
        self._wanted = more
        if not self._dismissed:
            self.templates.keep(now, more > 0 or keep_template)
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
        self.templates.end(signal.SIGTERM, now)
        self.dismiss(self.children, now)

    def press(self, number: signal.Signals, now: float) -> None:
        """Everybody is to leave by this signal; the daemon is terminating."""
        self._dismissed = True
        self.templates.end(number, now)
        for child in self.children:
            child.leaving_since = child.leaving_since or now
            if child.pressed is not number or number is signal.SIGKILL:
                self._press(child, number, now)

    def adopt(self, legacy: Iterable[tuple[int, int, tuple[int, ...]]], now: float) -> None:
        """Take workers (pid, mailbox, pipes) that an earlier image of this master had, and start none."""
        self._dismissed = True
        for slot, (pid, mailbox, pipes) in enumerate(legacy):
            pidfd = None
            with contextlib.suppress(OSError):  # no descriptor is left for it
                pidfd = processes.hold_child(pid)
            if pidfd is None:
                for descriptor in (mailbox, *pipes):
                    os.close(descriptor)
                continue
            child = Child(socket.socket(fileno=mailbox), now, pid, pidfd, pipes, slot=slot, ready=True)
            child.speaker = messages.Speaker.INHERITED_WORKER
            packets.refuse_descriptors(child.channel)
            # Their scoreboard is not known here: "idle" makes a request to leave be repeated until they do.
            self.scoreboard.show(slot, IDLE)
            self.children.add(child)
            self._dialogue.listen_to_prints(child)
            self._dialogue.begin(child, functools.partial(self._hear_child, child))

    def ask_stacks(self, child: Child, now: float, tell: Callable[[bytes, float], None]) -> None:
        """Have a worker write its stacks; `tell` gets them, or b"" if none come."""
        self._overtime.ask_stacks(child, now, tell)

    def look_after(self, now: float) -> None:
        """Time limits, and messages that could not be delivered: what no event brings."""
        if self._dismissed:
            self.templates.end(signal.SIGTERM, now)
        self._bell.listen_again(now)
        self._give_up_the_late(now)
        self._give_up_silent_peers(now)
        self._overtime.look_after(now)
        self._outlive(now)
        self._push_leaving(now)
        self._hand_over_access_log()
        self._dialogue.tell_left_out(now)

    def hear_newborns(self, now: float) -> None:
        """Hear those workers that were ordered and have not yet said who they are."""
        for child in self.children:
            if not child.pid:
                self._hear_child(child, now)

    def bury(self, end: processes.End, now: float) -> bool:
        """A child of the master has ended; False if it was none of these."""
        if self.templates.bury(end, now):
            return True
        child = self.children.with_pid(end.pid)
        if child is None:
            return False
        self._bury_child(child, end, now)
        return True

    def close(self) -> None:
        """It is gone, and so is what the master held of it."""
        self._dialogue.tell_left_out()
        self._bell.close()
        self.scoreboard.close()

    def _start_template(self, preload: str) -> Spawned:
        return start_template(
            self.settings,
            listener=self._resources.listener.socket,
            scoreboard=self.scoreboard,
            bell=self._bell.rope,
            generation=self.number,
            preload=preload,
            alarm_below=self._alarm_below,
            is_watched=self._resources.daemon.status_listen is not None,
            time_to_leave=self._resources.daemon.process_control_timeout + LAST_SECOND,
        )

    # ── the workers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _order_worker(self, now: float, must_prove_itself: bool) -> bool:
        """Ask the template for a worker; False when that must wait for another turn."""
        template = self.templates.current
        assert template is not None
        slot = self.children.free_slot()
        if slot is None:
            return False
        access_log = self._resources.access_log
        try:
            ordered = order_worker(
                template.channel,
                slot,
                must_prove_itself=must_prove_itself,
                catch_output=self.settings.catch_workers_output,
                traced=bool(trace_signal(self.settings)),
                access_log=None if access_log is None else access_log.file.fileno(),
            )
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EPIPE, errno.ECONNRESET):  # busy, or gone
                self._worker_failures.count(Reason(catalogue.CANNOT_FORK, f"cannot order a worker: {error}"), now)
            return False
        child = Child(ordered.mailbox, now, pipes=ordered.pipes, slot=slot, trace=ordered.trace, is_news=self.news)
        child.access_log = 0 if access_log is None else access_log.opened
        self.children.add(child)
        self._dialogue.begin(child, lambda now: self._hear_child(child, now))
        return True

    def _hear_child(self, child: Child, now: float) -> None:
        for message, sender in self._dialogue.hear(child):
            match message:
                case messages.Born():
                    self._adopt(child, sender.pid, now)
                case messages.Ready():
                    if child.pid:  # 0: it has ended already, and this is what it had to say
                        took = now - child.since
                        self._log.debug(f"{child.label()} is ready, {took:.6f} seconds after the order", self.name)
                        child.ready, child.since, child.main_thread = True, now, message.main_thread
                case messages.LoadFailed():
                    child.reason = reason_of(message)
                case messages.Outlived():
                    if not child.outlived:  # by pm.max_lifetime, a moment before
                        self._let_outlive(child, message.text)
                case messages.Said():
                    self._dialogue.log_said(child, message, now)
                case _:
                    raise AssertionError(f"messages.PERMITTED lets a worker say {message!r}")
        if child.channel_ended and not child.pid:
            is_lost = self.templates.is_ending(now)  # asked first: the template may have to say why it could not fork
            unborn = Reason(catalogue.WORKER_UNBORN, "a worker died before it was born")
            self._lose(child, None if is_lost else child.reason or unborn, now)

    def _adopt(self, child: Child, pid: int, now: float) -> None:
        """A worker has said its first word: the kernel tells who it is, by its credentials, and whose child it is."""
        try:
            pidfd = processes.hold_child(pid)
        except OSError as error:
            self._lose(child, Reason(catalogue.CANNOT_FORK, f"cannot keep a worker: {error}"), now)
            return
        if pidfd is None:
            if processes.is_stranger(pid):
                self._refuse(child, f"process {pid} is no child of this master and cannot be a worker")
            return  # or it has ended and is reaped already: what else it said is its reason
        if self.children.with_pid(pid) is not None:
            os.close(pidfd)
            self._refuse(child, f"process {pid} is a worker already and cannot be another")
            return
        child.pid, child.pidfd = pid, pidfd
        self._dialogue.listen_to_prints(child)
        if child.is_news:
            self._log.notice(f"{child.label()} started", self.name)

    def _refuse(self, child: Child, reason: str) -> None:
        self._log.warning(catalogue.FALSE_WORKER, reason, self.name)
        child.reason = Reason(catalogue.FALSE_WORKER, reason)
        self._dialogue.hang_up(child)

    def _lose_order(self, failed: messages.ForkFailed, now: float) -> None:
        child = self.children.in_slot(failed.slot)
        if child is not None and not child.pid:
            why = (
                f"{os.strerror(failed.error)} ({failed.error})" if failed.error else "the process in the middle failed"
            )
            self._lose(child, Reason(catalogue.CANNOT_FORK, f"fork() failed: {why}"), now)

    def _lose(self, child: Child, failure: Reason | None, now: float) -> None:
        """A worker that was ordered will not come; None if that is no failure of its own."""
        if self.children.in_slot(child.slot) is not child:
            return  # it is known already
        if failure is not None and not self._dismissed:
            self._worker_failures.count(failure, now)
        self._forget(child, now)

    def _bury_child(self, child: Child, end: processes.End, now: float) -> None:
        self._hear_child(child, now)  # it may have left its reason behind
        lived = now - child.since
        how = f"{child.label()} {processes.describe_end(end)} after {lived:.6f} seconds from start"
        if child.timed_out or child.pressed is signal.SIGKILL:
            end = end._replace(oom="")  # it was us
        how += processes.describe_crash(end)
        last = self.scoreboard.read_whole(child.slot)
        if end.by:
            self.signalled += 1
            self.scoreboard.set_mark(0)  # it may have taken up a connection that it did not come to count
        if end.by and last.stage in IN_REQUEST:
            how += f', in the middle of "{last.method} {last.uri}"'
        self._forget(child, now)
        match judge(child, end, last, lived, dismissed=self._dismissed):
            case Ending.OBEYED:
                if child.ready:
                    self._worker_failures.end(child.since)  # it did start, though it had no time to grow old
                self._log.debug(how, self.name)
            case Ending.CUT_OFF | Ending.TIMED_OUT:
                self.tally.killed += 1
                self._log.warning(catalogue.WORKER_CUT_OFF, how, self.name)
            case Ending.FAILED_TO_START:
                self.tally.crashed += 1
                young = catalogue.WORKER_OUT_OF_MEMORY if end.oom else catalogue.WORKER_DIED_YOUNG
                self._worker_failures.count(child.reason or Reason(young, how), now)
            case Ending.LEFT:
                self._log.notice(how, self.name)
            case Ending.DIED:
                self.tally.crashed += 1
                code = catalogue.WORKER_OUT_OF_MEMORY if end.oom else catalogue.WORKER_DIED
                self._log.warning(code, how, self.name)

    def _forget(self, child: Child, now: float) -> None:
        self._overtime.forget(child, now)
        self._dialogue.end(child)
        self.scoreboard.clear(child.slot)
        self.children.remove(child)

    # ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _give_up_the_late(self, now: float) -> None:
        for child in self.children:
            if child.ready:
                if self._worker_failures.streak.failures and deadlines.is_late(child.since, now, YOUNG):
                    self._worker_failures.end(child.since)
            elif deadlines.is_late(child.since, now, self.settings.spawn_timeout):
                self._give_up_on(child, f"not ready within {self.settings.spawn_timeout:g} s", now)

    def _give_up_on(self, child: Child, reason: str, now: float) -> None:
        template = self.templates.current
        if child.pid:
            child.reason = child.reason or Reason(catalogue.WORKER_LATE, f"{child.label()} was {reason}")
            processes.send_signal(child.pidfd, signal.SIGKILL)
        elif template is not None and template.since <= child.since:
            # Ordered and never born: a template that cannot fork is of no use, and the order ends with it.
            self.templates.kill(catalogue.ORDER_LATE, f"was ordered to fork a worker, which was {reason}")
        else:
            # Its template has gone, and the order has not ended with that: whoever it left behind has the mailbox.
            self._lose(child, Reason(catalogue.WORKER_UNBORN, f"a worker was {reason}, its template has gone"), now)

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
            if child.leaving_since is None:
                continue
            grace = self._resources.daemon.process_control_timeout
            number = pressure(Phase.FINISHING, now - child.leaving_since, grace)
            if child.outlived and not self._dismissed:
                number = signal.SIGQUIT  # it is replaced already, and nobody waits for it to go
            if number is None or is_harsher(child.pressed, number):
                continue
            # QUIT once is enough for a worker in a request, which must not be interrupted again and again; one that is
            # idle can have missed it between looking at its flag and accept(2).
            if child.pressed is not number or self.scoreboard.stage(child.slot) == IDLE:
                self._press(child, number, now)

    def _press(self, child: Child, number: signal.Signals, now: float) -> None:
        if child.pid:
            child.pressed = number
            processes.send_signal(child.pidfd, number)
        elif number is signal.SIGKILL:
            self._lose(child, None, now)  # ordered and never born: there is nobody to kill, or to wait for any longer

    # ── messages to workers ───────────────────────────────────────────────────────────────────────────────────────────

    def _hand_over_access_log(self) -> None:
        log = self._resources.access_log
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
            packets.send(child.channel, message)
        except OSError:
            return False
        processes.send_signal(child.pidfd, signal.SIGUSR1)
        return True
