"""A worker: accept, serve one request, repeat; leave when told to, or when the master has gone.

Runs in: worker, as the pool's user, Python 3.9 and up.
Fails by: LoadFailed and exit 70 when it has to load the application and cannot. Nothing that a peer sends and nothing
that an application raises ends a worker.

The common request is four system calls: accept4, read, write, close. That is why `serve` works on raw descriptors (a
socket object costs 1 to 4 µs), why the first read has no time limit of its own (the master sees the slot and says
GiveUp), and why everything else is asked only where the common case is left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
from _signal import getsignal  # type: ignore[import-not-found]  # signal's own tries an Enum first: 1 µs
from _thread import get_ident
from os import close, dup2, read, write
from signal import signal as set_handler
from socket import socket

from pyfpm import catalogue, kernel, messages, packets
from pyfpm.clients import Clients
from pyfpm.errors import ApplicationError, PeerError, PeerGone, RequestTimeout
from pyfpm.fork import EXIT_INTERNAL, leave
from pyfpm.gateway.body import Input, content_length, received
from pyfpm.gateway.environ import base_environ
from pyfpm.protocols.fastcgi import decode
from pyfpm.scoreboard import (
    BORN,
    CREATING,
    DEADLINE,
    DURATION,
    GENERATION,
    IDLE,
    NUMBER,
    PID,
    RAISED,
    READING,
    SINCE,
    Slot,
)
from pyfpm.worker.application import load_application
from pyfpm.worker.connection import READ_SIZE, Connection, address_of, wait_readable
from pyfpm.worker.mailbox import Mailbox
from pyfpm.worker.probe import prove
from pyfpm.worker.recycling import Recycling
from pyfpm.worker.request import Desk
from pyfpm.worker.timelimits import Deadline, may_be_interrupted, offer_stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from pyfpm.scoreboard import Scoreboard

# What accept(2) may say of a connection that has gone again before it was taken.
_GONE_AGAIN = (errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH)
# What it says when the system is short of something: waiting may help, giving up does not.
_SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_LISTENER = (errno.EBADF, errno.ENOTSOCK, errno.EINVAL, errno.EOPNOTSUPP)
SHORTAGE_PAUSE = 0.5
_QUIT, _USR1 = int(signal.SIGQUIT), int(signal.SIGUSR1)
RING = b"!"


def run_worker(
    settings: dict[str, Any],
    order: messages.ForkWorker,
    listener: socket,
    bell: int,
    scoreboard: Scoreboard,
    application: Callable[..., Any] | None,
) -> None:
    """The life of a worker, from the moment it is the master's child. Exits instead of returning when it fails."""
    worker = Worker(settings, order, listener, bell, scoreboard)
    worker.be_born()
    try:
        worker.prepare(application or load_application(settings["app"]))
        if order.must_prove_itself:
            prove(worker.application, settings, worker.base)
        worker.leave_if_forked()
    except ApplicationError as error:
        worker.leave_if_forked()
        worker.mailbox.say(messages.LoadFailed(error.code, text=str(error)))
        sys.exit(EXIT_INTERNAL)
    worker.serve()


class Worker:
    """One process of a pool that serves: made by the template's fork, it lives until the master or a limit ends it.

    Everything that it holds, it holds for the whole of that time: listener, mailbox, its slot on the scoreboard, the
    connections that are kept. `be_born`, `prepare` and `serve` are its life, each called once, in this order.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        order: messages.ForkWorker,
        listener: socket,
        bell: int,
        scoreboard: Scoreboard,
    ) -> None:
        mailbox, stdout, stderr, *others = order.descriptors
        dup2(stdout, 1)
        dup2(stderr, 2)
        close(stdout)
        close(stderr)
        self.settings = settings
        self.listener = listener
        self.no_listener = scoreboard.descriptor
        self.slot = Slot(scoreboard, order.slot)
        self.bell = bell
        self.alarm_below: int = settings["alarm_below"]
        self.sheds = settings["request_queue_timeout"] > 0
        self.recycling = Recycling.of(settings)
        self.trace = others.pop(0) if settings["trace_signal"] else -1
        self.main_thread = 0  # by the name that stack dumps have for it; 0 while none can be had
        self.mailbox = Mailbox(socket(fileno=mailbox), others[0] if others else None)
        self.stopping = False
        self.number = 0  # of the connection in hand, or of the turn on a kept one: what GiveUp names
        self.awaiting = False  # in the read of a request's first bytes, which has no time limit of its own
        self.kept: dict[int, Kept] = {}
        self._connection = Connection(
            settings["connections"],
            settings["request_head_timeout"],
            settings["request_body_timeout"],
            settings["request_send_timeout"],
        )
        self._on_quit, self._on_mail = self._stop, self._look_in_mailbox  # bound once, to be known again
        self.is_forked = False  # we are no worker but a process that an application has forked from one
        allowed = settings["listen_allowed_clients"]
        self.allowed = Clients(allowed) if allowed else None

    # ── beginning and end ───────────────────────────────────────────────────────────────────────────────────────────

    def be_born(self) -> None:
        """Become visible: to ps(1), on the scoreboard, and to the master, who learns our pid from this message."""
        kernel.set_title(f"pyfpm: pool {self.settings['pool']}")
        numbers = self.slot.numbers
        numbers[PID] = os.getpid()
        numbers[GENERATION] = self.settings["generation"]
        numbers[SINCE] = numbers[BORN] = time.monotonic_ns()
        self.slot.stages[self.slot.own] = CREATING
        self._take_signals()
        os.register_at_fork(after_in_child=self._disown)
        kernel.die_with_parent(signal.SIGQUIT)
        if os.getppid() != self.settings["master"]:
            sys.exit(0)  # it died before we could ask to be told
        if not self.mailbox.say(messages.Born()):
            sys.exit(0)  # the master has been told that there is no such worker

    def _take_signals(self) -> None:
        set_handler(signal.SIGQUIT, self._on_quit)
        set_handler(signal.SIGUSR1, self._on_mail)
        set_handler(signal.SIGPIPE, signal.SIG_IGN)  # a peer that has gone is an OSError

    def _stop(self, *_: object) -> None:
        """Finish the request in hand, then leave.

        The listener's number gets another file, on which accept(2) fails and which poll(2) finds ready: a wait is
        interrupted by this signal, tried again by the interpreter (PEP 475), and over then. Nothing is raised here, so
        no connection can be lost that was accepted a moment before. The file is one that is open anyway: a chroot may
        have no /dev/null, and the application may have used up all descriptors.
        """
        self.stopping = True
        with contextlib.suppress(OSError):  # the application may have closed either
            dup2(self.no_listener, self.listener.fileno(), inheritable=False)
        if os.getppid() != self.settings["master"]:
            self._end_in_time()

    def _end_in_time(self) -> None:
        """The master has gone, and with it whoever would put an end to a request that does not: so the kernel does."""
        set_handler(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self.settings["time_to_leave"])

    def _look_in_mailbox(self, _number: int, frame: FrameType | None) -> None:
        given_up = self.mailbox.look()
        if self.mailbox.is_closed:
            self._stop()
        if self.mailbox.timed_out == self.number:
            self._end_request(frame)
        # Only while the first bytes are awaited: what is raised then can hit nothing but that wait. The scoreboard has
        # READING some time longer, and the master repeats itself until it does not.
        elif given_up == self.number and self.awaiting:
            self.awaiting = False
            raise PeerGone(f"the peer sent no request in {self.settings['request_head_timeout']:g} seconds")

    def _end_request(self, frame: FrameType | None) -> None:
        """Interrupt the application, once. Where that cannot be done the master repeats itself until it can."""
        numbers = self.slot.numbers
        deadline = numbers[DEADLINE]
        # An extension may have crossed the message. The number is right: `number` is that of the request in hand.
        if deadline != RAISED and deadline <= time.monotonic_ns() and may_be_interrupted(frame):
            numbers[DEADLINE] = RAISED
            limit = self.settings["request_terminate_timeout"]
            raise RequestTimeout(f"the request has taken longer than {limit:g} seconds (request_terminate_timeout)")

    def _disown(self) -> None:
        """Runs in a process that the application forks (os.fork, multiprocessing; not subprocess).

        It gets nothing of what is the worker's: it must not answer the request a second time, take another one, or keep
        the connection open behind the worker's back. What it runs is the application's affair until it comes back here.
        """
        if self.is_forked:
            return  # a process that such a one has forked
        self.is_forked = self.stopping = True
        self.mailbox.close()
        self.listener.close()
        descriptor, self._connection.descriptor = self._connection.descriptor, -1
        for number in {*self.kept, descriptor} - {-1}:
            with contextlib.suppress(OSError):
                close(number)
        self.kept.clear()

    def leave_if_forked(self) -> None:
        """The end of a process that the application has forked, and let come back out of itself."""
        if self.is_forked:
            text = f"pyfpm: process {os.getpid()}, forked by the application, returned into the worker; it ends here"
            with contextlib.suppress(OSError):
                write(2, f"{catalogue.marked(text, catalogue.FORKED_AND_RETURNED)}\n".encode())
            leave(0)

    # ── serving ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, application: Callable[..., Any]) -> None:
        """Set up everything that serving takes; the application is loaded by now."""
        self._take_signals()  # again: the application's import may have taken them
        self.application = application
        settings = self.settings
        self.base = self._connection.base = base = base_environ(sys.stderr)
        self._desk = Desk(settings, application, self.slot, self._connection, self.mailbox, self.leave_if_forked)
        base["pyfpm.finish_request"] = self._desk.finish_request
        if settings["request_terminate_timeout"]:
            base["pyfpm.deadline"] = Deadline(self.slot)
        if number := settings["trace_signal"]:
            self._offer_stacks(number)

    def _offer_stacks(self, number: int) -> None:
        if offer_stacks(self.trace, number):
            self.main_thread = get_ident()
        else:
            name = f"SIGRTMIN+{number - signal.SIGRTMIN}"
            text = f"no stacks of slow requests: the application uses {name} itself; see slowlog_signal"
            self.mailbox.warn(catalogue.SIGNAL_TAKEN, text)

    def serve(self) -> None:
        """Serve until told to stop."""
        self.slot.numbers[SINCE] = time.monotonic_ns()
        self.slot.stages[self.slot.own] = IDLE
        if not self.mailbox.say(messages.Ready(self.main_thread)):
            return
        accept = self.listener._accept  # type: ignore[attr-defined]  # accept() makes a socket object: 3.7 µs
        while not self.stopping:
            if self.kept:
                self._serve_kept_or_new(accept)
                continue
            try:
                descriptor, peer = accept()
            except OSError as error:
                self._after_failed_accept(error)
                continue
            self._converse(descriptor, peer, b"")
        if self.kept:
            self._serve_kept_or_new(accept)  # one answer each for who has asked by now: no front repeats a POST
        for descriptor in self.kept:
            with contextlib.suppress(OSError):
                close(descriptor)

    def _converse(self, descriptor: int, peer: Any, begun: bytes) -> None:
        """One request on a connection, `begun` of it has been read. The connection is closed, or kept for the next.

        Whatever becomes of the request, and whatever the application has done to the descriptors, this returns.
        """
        slot = self.slot
        numbers = slot.numbers
        numbers[SINCE] = accepted = time.monotonic_ns()
        numbers[DURATION] = 0  # it may bring no request: idle since then
        self.number = numbers[NUMBER] = self.number + 1
        slot.stages[slot.own] = READING
        if self.alarm_below and slot.should_ring(self.alarm_below):
            self._ring()
        if self.sheds:
            self._desk.is_behind = descriptor not in self.kept and slot.is_behind()
        connection = self._connection
        connection.open(descriptor)
        rest = None
        try:
            if self.allowed is None or self.allowed.admits(peer):
                self.awaiting = True
                data = begun or read(descriptor, READ_SIZE)
                self.awaiting = False
                if data:
                    rest = self._serve_request(data, peer, accepted)
                # Else it is a look at whether we are there, or the end of a kept connection.
            else:
                text = f"Connection disallowed: IP address '{peer[0]}' has been dropped."
                self.mailbox.warn(catalogue.CLIENT_DISALLOWED, text)
        except PeerError as error:
            self.mailbox.warn(catalogue.BAD_CONNECTION, f"{show_peer(descriptor, peer)}: {error}; connection closed")
        except PeerGone as error:
            self.mailbox.debug(f"{show_peer(descriptor, peer)}: {error}")
        except OSError:
            self.awaiting = False  # it was reset before it said a word
        finally:
            slot.stages[slot.own] = IDLE
            connection.descriptor = -1
            try:
                if rest is None or self.stopping:
                    self.kept.pop(descriptor, None)
                    close(descriptor)
                else:
                    self._keep(descriptor, peer, rest)
            except OSError:
                self.kept.pop(descriptor, None)  # the application has closed it
        if getsignal(_QUIT) is not self._on_quit or getsignal(_USR1) is not self._on_mail:
            self._take_signals()  # or the worker could neither be retired nor be told of a silent peer
            text = "the application has replaced the worker's handler of SIGQUIT or SIGUSR1; it is put back"
            self.mailbox.warn(catalogue.SIGNALS_REPLACED, text)
        if self.recycling is not None and (reason := self.recycling.is_due(self._desk.served)):
            # The master lets us go when a replacement is ready, or now if there is no room for one.
            self.recycling = None
            self.mailbox.say(messages.Outlived(text=reason))

    def _ring(self) -> None:
        """Wake the master. A full pipe has woken it already; one without a reader was of an image before this one."""
        with contextlib.suppress(OSError):
            write(self.bell, RING)

    def _serve_request(self, data: bytes, peer: Any, accepted: int) -> bytes | None:
        """Decode and answer; the beginning of a next request if the connection is to be kept, or None.

        One on which no request has begun yet is kept, too: there may be others who have one.
        """
        request = decode(data, self.base)
        connection = self._connection
        if request is not None:
            environ, keep, request_id, body = request
            complete = self._desk.answer(environ, request_id, received(environ, body), peer, accepted)
            if not keep:
                return None
        else:
            head = connection.read_head(data)
            if head is None:
                return b""
            environ, keep, request_id = head.environ, head.keep, head.request_id
            stream = Input(b"", content_length(environ), connection.more)
            complete = self._desk.answer(environ, request_id, stream, peer, accepted)
        return connection.finish(keep) if complete else None

    def _after_failed_accept(self, error: OSError) -> None:
        if self.stopping:
            return
        if error.errno in _GONE_AGAIN:
            self.number += 1  # it had its place in the queue
            self.slot.numbers[NUMBER] = self.number
            return
        if error.errno == errno.EAGAIN:
            # A worker of this pool keeps connections and has made the listener non-blocking for all of us.
            wait_readable([self.listener.fileno()], None)
        elif error.errno in _SHORT_OF:
            text = f"accept() failed: {error.strerror} ({error.errno}); see rlimit_files"
            self.mailbox.warn(catalogue.OUT_OF_DESCRIPTORS, text)
            wait_readable([], SHORTAGE_PAUSE)
        elif error.errno in _NO_LISTENER:
            # This one cannot serve any more; the master replaces it.
            reason = "the application has closed or replaced file descriptors that were its worker's"
            text = f"accept() failed: {error.strerror}; {reason}"
            raise ApplicationError(text, catalogue.DESCRIPTORS_CLOSED) from error
        else:
            raise error

    # ── kept connections (FCGI_KEEP_CONN) ───────────────────────────────────────────────────────────────────────────

    def _keep(self, descriptor: int, peer: Any, rest: bytes) -> None:
        if not self.kept and os.get_blocking(self.listener.fileno()):
            # From now on there is more than one thing to wait for, so accept must not wait. The flag belongs to the
            # socket and not to us: the other workers find out by EAGAIN.
            os.set_blocking(self.listener.fileno(), False)
        if descriptor not in self.kept:
            os.set_blocking(descriptor, False)  # what it has not read of the last answer may fill its buffer
        self.kept[descriptor] = Kept(peer, rest, time.monotonic() + self.settings["keepalive_timeout"])

    def _serve_kept_or_new(self, accept: Callable[[], tuple[int, Any]]) -> None:
        """Wait for the next request on any kept connection, or for a new connection, and serve what there is.

        One request of each: who has sent several ahead waits for the others between them.
        """
        pending = [descriptor for descriptor, kept in self.kept.items() if kept.rest]
        until = min(kept.until for kept in self.kept.values())
        listener = self.listener.fileno()
        ready = wait_readable([*self.kept, listener], 0 if pending or self.stopping else until - time.monotonic())
        turn = dict.fromkeys([*ready, *pending])
        self._close_expired(turn)
        for descriptor in turn:
            if descriptor != listener:
                kept = self.kept[descriptor]
                self._converse(descriptor, kept.peer, kept.rest)
                continue
            try:
                accepted = accept()
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    self._after_failed_accept(error)
                continue
            self._converse(*accepted, b"")

    def _close_expired(self, turn: dict[int, None]) -> None:
        """Those whose time is over; not those whose turn it is, who have spoken while we were busy."""
        now = time.monotonic()
        for descriptor in [number for number, kept in self.kept.items() if kept.until <= now and number not in turn]:
            del self.kept[descriptor]
            with contextlib.suppress(OSError):
                close(descriptor)


class Kept:
    """A connection between two requests: who is at its other end, what of the next has come, until when it is kept."""

    __slots__ = ("peer", "rest", "until")

    def __init__(self, peer: Any, rest: bytes, until: float) -> None:
        self.peer = peer
        self.rest = rest
        self.until = until


def show_peer(descriptor: int, peer: Any) -> str:
    """Who connected, for the log: an address, or the process at the other end of a unix socket."""
    if isinstance(peer, tuple):
        host = address_of(peer)
        return f"peer [{host}]:{peer[1]}" if ":" in host else f"peer {host}:{peer[1]}"
    try:
        connection = socket(fileno=descriptor)
    except OSError:
        return "peer on a descriptor that the application has closed"
    try:
        process = packets.peer_of(connection)
    except OSError:
        return "peer on the unix socket"
    finally:
        connection.detach()
    return f"peer process {process.pid} of uid {process.uid}"
